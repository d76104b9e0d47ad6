//! An image's name, which is also its directory's.

use crate::runtime::RuntimeError;

/// Up to 63 of `a-z`, `0-9`, `.` and `-`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName(String);

impl ImageName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`RuntimeError::ImageBroken`] that says what a name may be made of.
    pub fn parse(text: &str) -> Result<Self, RuntimeError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let sound = text.len() <= 63
            && text.bytes().next().is_some_and(plain)
            && text
                .bytes()
                .all(|byte| plain(byte) || byte == b'.' || byte == b'-');
        if sound {
            return Ok(Self(text.to_owned()));
        }
        Err(RuntimeError::ImageBroken {
            name: text.chars().take(64).collect(),
            reason: "a name is made of at most 63 lower-case letters, digits, dots and hyphens, \
                     and begins with a letter or a digit"
                .into(),
        })
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_way_out() {
        for good in ["debian", "debian-12", "a.b", "0"] {
            assert!(ImageName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            ".new",
            "-a",
            "a/b",
            "A",
            "a b",
            "a\0",
            "ä",
            long.as_str(),
        ] {
            assert!(ImageName::parse(bad).is_err(), "{bad}");
        }
    }
}
