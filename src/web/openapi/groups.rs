//! The groups of the documentation, in the order of reading: the document's tags, and the parts of
//! `/docs`.
//!
//! A path is in the group that knows the last of its words that any group knows, so that a new
//! route has its place by its path. To add a group, add a line to [`GROUPS`].

/// Of what no other group knows.
const REST: &str = "Server";

/// Names, and the words of paths that they know.
pub const GROUPS: [(&str, &[&str]); 11] = [
    ("Containers", &["containers"]),
    ("Commands", &["commands", "jobs"]),
    ("Files", &["files"]),
    ("Terminals", &["terminals", "terminal"]),
    ("Events", &["events", "ws-tickets"]),
    ("Images", &["images"]),
    ("Tokens", &["tokens"]),
    ("Account", &["auth"]),
    ("OAuth", &["oauth"]),
    ("Administration", &["admin", "audit-logs"]),
    (REST, &[]),
];

/// The name of the group of a path.
#[must_use]
pub fn of(path: &str) -> &'static str {
    path.rsplit('/')
        .find_map(|word| GROUPS.iter().find(|(_, words)| words.contains(&word)))
        .map_or(REST, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_known_word_decides() {
        for (path, group) in [
            ("/api/v1/containers/{id}/start", "Containers"),
            ("/api/v1/containers/{id}/files/mkdir", "Files"),
            ("/ws/jobs/{job_id}", "Commands"),
            ("/ws/terminal/{container_id}", "Terminals"),
            ("/api/v1/oauth/token/revoke", "OAuth"),
            ("/api/v1/admin/users/{id}/sessions", "Administration"),
            ("/api/v1/healthz", "Server"),
        ] {
            assert_eq!(of(path), group, "{path}");
        }
    }
}
