//! The machine's own package sources: which of them are the distribution's, and how to write
//! them down again.
//!
//! Only the distribution's own go into an image. What else an administrator added to the machine
//! (Docker, Node.js, a company's mirror of its own programs) is nobody's business in a box, and
//! its keys are not there.

use std::path::Path;

/// The keyring files of the distributions, by the beginning of their names.
const KEYRINGS: [&str; 2] = ["debian-archive-", "ubuntu-archive-"];
/// The components of the distributions' archives.
const COMPONENTS: [&str; 8] = [
    "main",
    "contrib",
    "non-free",
    "non-free-firmware",
    "restricted",
    "universe",
    "multiverse",
    "non-us",
];
/// Hosts of personal archives that look like a distribution's.
const PERSONAL: [&str; 2] = ["ppa.launchpad.net", "ppa.launchpadcontent.net"];

/// One source of binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// A path, or a key itself with its line breaks; apt's default keys if none.
    pub signed_by: Option<String>,
}

/// Reads a `.sources` file: stanzas of fields, as in mail headers.
pub fn parse_stanzas(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    // A comment does not end a stanza.
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in lines.chain([""]) {
        if line.trim().is_empty() {
            found.extend(stanza_source(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

fn stanza_source(stanza: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        stanza
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, text)| text)
    };
    let words = |name: &str| -> Vec<String> {
        field(name)
            .map(|text| text.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let off = field("enabled").is_some_and(|text| {
        ["no", "false", "off", "0", "without", "disable"].contains(&text.to_lowercase().as_str())
    });
    if off || !words("types").iter().any(|kind| kind == "deb") {
        return None;
    }
    Some(Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").cloned(),
    })
}

/// Reads a `.list` file: a source a line.
pub fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(line_source).collect()
}

fn line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let mut signed_by = None;
    if let Some((options, after)) = rest
        .trim_start()
        .strip_prefix('[')
        .and_then(|text| text.split_once(']'))
    {
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by,
    })
}

impl Source {
    /// Whether this is an archive of the distribution whose release is called `codename`.
    pub fn is_of_distribution(&self, codename: &str) -> bool {
        let suite = |suite: &String| {
            suite.strip_prefix(codename).is_some_and(|rest| {
                [
                    "",
                    "-updates",
                    "-security",
                    "-backports",
                    "-proposed-updates",
                    "/updates",
                ]
                .contains(&rest.trim_end_matches('/'))
            })
        };
        let key = match &self.signed_by {
            None => true,
            Some(key) if key.contains("-----BEGIN") => true,
            Some(paths) => paths.split([',', ' ']).all(|path| {
                let file = Path::new(path)
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                KEYRINGS.iter().any(|keyring| file.starts_with(keyring))
            }),
        };
        let place = |uri: &String| {
            let host = uri
                .split("//")
                .nth(1)
                .and_then(|rest| rest.split('/').next());
            host.is_some_and(|host| !PERSONAL.contains(&host))
        };
        let reachable = |uri: &String| uri.starts_with("http://") || uri.starts_with("https://");
        key && !self.components.is_empty()
            && self
                .components
                .iter()
                .all(|component| COMPONENTS.contains(&component.as_str()))
            && !self.suites.is_empty()
            && self.suites.iter().all(suite)
            && !self.uris.is_empty()
            && self.uris.iter().all(place)
            && self.uris.iter().all(reachable)
    }

    /// With each `mirror+file:` replaced by the mirrors that the file lists, as `read` gives it:
    /// cloud images of Debian have theirs there, and a box has not that file.
    fn with_mirrors(mut self, read: &impl Fn(&str) -> String) -> Self {
        self.uris = self
            .uris
            .into_iter()
            .flat_map(|uri| match uri.strip_prefix("mirror+file:") {
                Some(path) => {
                    let path = format!("/{}", path.trim_start_matches('/'));
                    let list = read(&path);
                    list.lines()
                        .filter_map(|line| line.split('#').next()?.split_whitespace().next())
                        .map(str::to_owned)
                        .collect()
                }
                None => vec![uri],
            })
            .collect();
        self
    }
}

impl std::fmt::Display for Source {
    /// A stanza, without the empty line after it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Types: deb")?;
        writeln!(f, "URIs: {}", self.uris.join(" "))?;
        writeln!(f, "Suites: {}", self.suites.join(" "))?;
        writeln!(f, "Components: {}", self.components.join(" "))?;
        if let Some(key) = &self.signed_by {
            writeln!(f, "Signed-By: {key}")?;
        }
        Ok(())
    }
}

/// All sources of the distribution that `etc_apt` names.
///
/// # Errors
/// When a directory or file that is there cannot be read.
pub fn of_distribution(etc_apt: &Path, codename: &str) -> std::io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(parts) = std::fs::read_dir(etc_apt.join("sources.list.d")) {
        for part in parts {
            files.push(part?.path());
        }
    }
    files.sort();
    for file in files {
        let parse = match file.extension().and_then(|end| end.to_str()) {
            Some("list") => parse_lines,
            Some("sources") => parse_stanzas,
            _ => continue,
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => sources.extend(parse(&text)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Ok(sources
        .into_iter()
        .map(|source| source.with_mirrors(&read))
        .filter(|source| source.is_of_distribution(codename))
        .collect())
}

/// The settings of apt that decide whether and how it reaches its sources, as
/// `apt-config dump` has them.
pub fn settings(dump: &str) -> Vec<String> {
    dump.lines()
        .map(str::trim)
        .filter(|line| {
            let Some((name, value)) = line.split_once(' ') else {
                return false;
            };
            let name = name.to_ascii_lowercase();
            let kept = name.starts_with("acquire::http::proxy")
                || name.starts_with("acquire::https::proxy")
                || name == "acquire::check-valid-until"
                || name == "acquire::check-date";
            kept && value != "\"\";"
        })
        .map(str::to_owned)
        .collect()
}

/// Whether a setting is of use in a box: a proxy on the machine's loopback is not reached there.
pub fn is_for_boxes(setting: &str) -> bool {
    !["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|loopback| setting.contains(loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb deb-src
# a snapshot's address
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://mirror.example.org/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://mirror.example.org/debian
Suites: bookworm-backports
Components: main

types: deb
uris: https://deb.nodesource.com/node_20.x
suites: nodistro
components: main
signed-by: /usr/share/keyrings/nodesource.gpg
";

    #[test]
    fn stanzas_are_read_and_written() {
        let sources = parse_stanzas(STANZAS);
        assert_eq!(sources.len(), 2);
        assert!(sources[0].is_of_distribution("bookworm"));
        assert!(!sources[0].is_of_distribution("trixie"));
        assert!(!sources[1].is_of_distribution("bookworm"));
        assert_eq!(parse_stanzas(&sources[0].to_string()), sources[..1]);
    }

    #[test]
    fn a_key_in_the_stanza_keeps_its_lines() {
        let text = "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\n\
                    Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let sources = parse_stanzas(text);
        assert!(sources[0].is_of_distribution("bookworm"));
        assert!(sources[0].to_string().contains("Signed-By: \n -----BEGIN"));
        assert_eq!(parse_stanzas(&sources[0].to_string()), sources);
    }

    #[test]
    fn only_the_distributions_own_lines_count() {
        let own = |line: &str, codename| {
            parse_lines(line)
                .first()
                .is_some_and(|source| source.is_of_distribution(codename))
        };
        assert!(own(
            "deb http://mirror.example.org/debian bookworm main contrib # x",
            "bookworm"
        ));
        assert!(own(
            "deb http://security.example.org/debian-security bookworm-security main",
            "bookworm"
        ));
        assert!(own(
            "deb [arch=amd64 signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] \
                     http://archive.example.org/ubuntu noble main universe",
            "noble"
        ));
        for other in [
            "deb-src http://mirror.example.org/debian bookworm main",
            "# deb http://mirror.example.org/debian bookworm main",
            "deb https://download.docker.com/linux/debian bookworm stable",
            "deb http://apt.postgresql.org/pub/repos/apt bookworm-pgdg main",
            "deb [signed-by=/etc/apt/keyrings/x.gpg] http://x.example/debian bookworm main",
            "deb http://ppa.launchpadcontent.net/a/b/ubuntu bookworm main",
            "deb cdrom:[Debian]/ bookworm main",
            "deb file:/srv/debian bookworm main",
            "deb http://mirror.example.org/debian trixie main",
            "deb http://x.example/ ./",
        ] {
            assert!(!own(other, "bookworm"), "{other}");
        }
    }

    #[test]
    fn mirror_lists_are_resolved() {
        let source = parse_stanzas(
            "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\nComponents: main\n",
        )
        .remove(0)
        .with_mirrors(&|path| {
            assert_eq!(path, "/etc/apt/mirrors/debian.list");
            "# nearest\nhttps://mirror.example.org/debian priority:1\n".into()
        });
        assert_eq!(source.uris, ["https://mirror.example.org/debian"]);
        assert!(source.is_of_distribution("trixie"));
    }

    #[test]
    fn proxies_are_taken_over() {
        let dump = "APT \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://127.0.0.1:3142\";\n\
                    Acquire::https::Proxy \"http://proxy.example:3128\";\nAcquire::Languages \"none\";\n\
                    Acquire::Check-Valid-Until \"false\";\n";
        let kept = settings(dump);
        assert_eq!(kept.len(), 3);
        assert_eq!(
            kept.iter().filter(|setting| is_for_boxes(setting)).count(),
            2
        );
    }
}
