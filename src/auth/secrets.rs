//! The forms of the secrets hzel hands out: a prefix, 30 random base62 characters, and six of
//! CRC32, so that a mistyped or made-up one is refused without asking the database, and so that
//! secret scanners can tell a real one.
//!
//! To add a kind, add a prefix constant; hashes and comparison are the same for all.

use sha2::{Digest, Sha256};

use crate::app::Entropy;

/// A personal access token.
pub const PERSONAL_TOKEN: &str = "hzel_";
/// An OAuth application's access token.
pub const ACCESS_TOKEN: &str = "hzat_";
/// An OAuth application's refresh token.
pub const REFRESH_TOKEN: &str = "hzrt_";
/// An OAuth application's client secret.
pub const CLIENT_SECRET: &str = "hzcs_";
/// A key to one WebSocket, for one use.
pub const TICKET: &str = "hzws_";

/// What a link to choose a new password carries.
pub const PASSWORD_RESET: &str = "hzpr_";

/// How much of a token is kept to recognise it by.
pub const SHOWN_PREFIX_LEN: usize = 13;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LEN: usize = 30;
const CHECK_LEN: usize = 6;

/// A new secret with that prefix.
#[must_use]
pub fn generate(prefix: &str, entropy: &dyn Entropy) -> String {
    let mut secret = String::with_capacity(prefix.len() + RANDOM_LEN + CHECK_LEN);
    secret.push_str(prefix);
    secret.push_str(&random_base62(RANDOM_LEN, entropy));
    let check = check_of(&secret);
    secret.push_str(&check);
    secret
}

/// Whether `text` has that prefix, the right length and the right checksum.
#[must_use]
pub fn is_well_formed(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix) else {
        return false;
    };
    if rest.len() != RANDOM_LEN + CHECK_LEN || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return false;
    }
    let (body, check) = text.split_at(prefix.len() + RANDOM_LEN);
    check_of(body) == check
}

/// SHA-256 in hex: the only form in which a secret is stored.
#[must_use]
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// Whether two secrets are the same, in time that does not tell where they differ.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    use subtle::ConstantTimeEq;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// `len` characters, each of 62 as likely.
#[must_use]
pub fn random_base62(len: usize, entropy: &dyn Entropy) -> String {
    let mut text = String::with_capacity(len);
    let mut bytes = [0_u8; 64];
    while text.len() < len {
        entropy.fill(&mut bytes);
        // 248 is the largest multiple of 62 in a byte: what is above it would favour some.
        let fair = bytes
            .iter()
            .filter(|b| **b < 248)
            .map(|b| ALPHABET[usize::from(*b) % 62]);
        text.extend(fair.take(len - text.len()).map(char::from));
    }
    text
}

/// What `/setup` asks for: easy to read from a log and to type.
#[must_use]
pub fn setup_code(entropy: &dyn Entropy) -> String {
    readable(16, entropy)
}

/// `len` capitals and digits in groups of four, without those that look alike.
#[must_use]
pub fn readable(len: usize, entropy: &dyn Entropy) -> String {
    let mut clear: Vec<char> = Vec::with_capacity(len);
    while clear.len() < len {
        let text = random_base62(64, entropy);
        // Only the capitals of the 62, so that each is as likely as the others.
        let plain = text
            .chars()
            .filter(|c| "ACDEFGHJKMNPQRTUVWXY34679".contains(*c));
        clear.extend(plain.take(len - clear.len()));
    }
    clear
        .chunks(4)
        .map(|c| c.iter().collect::<String>())
        .collect::<Vec<_>>()
        .join("-")
}

fn check_of(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut check = [b'0'; CHECK_LEN];
    for place in check.iter_mut().rev() {
        *place = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    check.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::SystemEntropy;

    #[test]
    fn a_generated_secret_is_well_formed_and_a_changed_one_is_not() {
        let secret = generate(PERSONAL_TOKEN, &SystemEntropy);
        assert_eq!(secret.len(), 5 + 36);
        assert!(is_well_formed(PERSONAL_TOKEN, &secret));
        let mut changed = secret.clone().into_bytes();
        changed[10] = if changed[10] == b'a' { b'b' } else { b'a' };
        assert!(!is_well_formed(
            PERSONAL_TOKEN,
            std::str::from_utf8(&changed).unwrap()
        ));
        assert!(!is_well_formed(PERSONAL_TOKEN, &secret[..40]));
    }

    #[test]
    fn the_setup_code_has_four_groups() {
        let code = setup_code(&SystemEntropy);
        assert_eq!(code.len(), 19, "{code}");
    }
}
