//! What a system says it is, in its `os-release`.
//!
//! To tell one more thing of a system, read its key with [`os_release`].

use std::path::Path;

use super::init;

/// What an image says it is.
pub(super) fn describe(rootfs: &Path) -> String {
    const MOST: usize = 100;
    ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .filter_map(|path| init::read_inside(rootfs, path))
        .find_map(|text| os_release(&text, "PRETTY_NAME"))
        .map_or_else(
            || "Linux".to_owned(),
            |text| {
                text.chars()
                    .filter(|c| !c.is_control())
                    .take(MOST)
                    .collect()
            },
        )
}

/// A value of an `os-release` file.
pub(super) fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nIDX=no\nEMPTY=\n";
        assert_eq!(
            os_release(text, "PRETTY_NAME").unwrap(),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_release(text, "ID").unwrap(), "debian");
        assert_eq!(os_release(text, "EMPTY"), None);
    }
}
