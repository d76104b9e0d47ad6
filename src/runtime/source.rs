//! Where an image comes from, as people write it.
//!
//! To add a kind of source, give [`ImageSource`] a variant, and [`ImageSource::parse`] the form
//! by which it is told from the others.

use std::path::PathBuf;

use super::ImageSource;

/// The ends of names that mean a file even without a slash at the beginning.
const TARBALLS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".txz"];

impl ImageSource {
    /// Reads `default` (or nothing), a path of a tar file (one that begins with `/` or `./`, or
    /// ends as tar files do), or a registry reference, with or without `oci:` or `docker://`
    /// before it.
    ///
    /// # Errors
    /// A sentence for people, when it is none of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text == "default" {
            return Ok(Self::Default);
        }
        let prefixed = text
            .strip_prefix("docker://")
            .or_else(|| text.strip_prefix("oci:"));
        if prefixed.is_none() {
            let is_path = text.starts_with('/') || text.starts_with("./");
            if is_path || TARBALLS.iter().any(|end| text.ends_with(end)) {
                return Ok(Self::Tarball(PathBuf::from(text)));
            }
        }
        let reference = prefixed.unwrap_or(text);
        reference
            .parse::<oci_client::Reference>()
            .map(|_| Self::Oci(reference.to_owned()))
            .map_err(|_| {
                format!(
                    "{text} is neither \"default\", nor the path of a .tar, .tar.gz, .tar.zst or \
                     .tar.xz file, nor a registry reference such as docker.io/library/debian:12"
                )
            })
    }
}

impl std::fmt::Display for ImageSource {
    /// The form that [`ImageSource::parse`] reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Oci(reference) => f.write_str(reference),
            Self::Tarball(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let tarball = |path: &str| Ok(ImageSource::Tarball(path.into()));
        let oci = |reference: &str| Ok(ImageSource::Oci(reference.into()));
        for (text, expected) in [
            ("", Ok(ImageSource::Default)),
            (" default ", Ok(ImageSource::Default)),
            ("/srv/alpine", tarball("/srv/alpine")),
            ("./x", tarball("./x")),
            ("images/alpine.tar.gz", tarball("images/alpine.tar.gz")),
            ("debian", oci("debian")),
            ("debian:12", oci("debian:12")),
            ("oci:debian:12", oci("debian:12")),
            ("docker://127.0.0.1:5000/a/b:c", oci("127.0.0.1:5000/a/b:c")),
        ] {
            assert_eq!(ImageSource::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_its_name() {
        for bad in [
            "https://example.net/x",
            "Debian 12",
            "a b",
            "UPPER/case",
            "oci:",
        ] {
            let said = ImageSource::parse(bad).unwrap_err();
            assert!(said.contains(bad), "{said}");
        }
    }
}
