//! Passwords: argon2id with its parameters in the hash, the rules for new ones, and equal time for
//! accounts that do not exist.
//!
//! To change the parameters, change [`Passwords::argon2`]: [`Passwords::verify`] tells when an old
//! hash wants to be made anew.

use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::app::Entropy;
use crate::error::{Error, Result};

/// Shortest password, in characters (NIST SP 800-63B for a password that stands alone: 15; hzel
/// asks for 12 and refuses the common ones).
pub const MIN_CHARS: usize = 12;
/// Longest password, in bytes: what is longer only costs time to hash.
pub const MAX_BYTES: usize = 256;

/// What a password may not be: the words most often found in leaked lists, with what people add to
/// reach a length.
const COMMON: &[&str] = &[
    "password",
    "passwort",
    "qwerty",
    "qwertz",
    "azerty",
    "letmein",
    "welcome",
    "admin",
    "administrator",
    "iloveyou",
    "monkey",
    "dragon",
    "football",
    "baseball",
    "sunshine",
    "princess",
    "superman",
    "batman",
    "trustno",
    "master",
    "shadow",
    "michael",
    "jennifer",
    "abcdef",
    "abc",
    "hzel",
    "secret",
    "changeme",
    "default",
    "login",
    "root",
    "test",
    "user",
    "hello",
    "whatever",
];

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Right.
    Yes,
    /// Right, and the hash was made with older parameters.
    YesButOld,
    No,
}

/// Hashes and checks, a few at a time.
pub struct Passwords {
    entropy: Arc<dyn Entropy>,
    /// Each run takes 19 MiB and some 20 ms of a core: a flood of sign-ins must neither fill the
    /// memory nor starve the rest.
    slots: Arc<Semaphore>,
}

static DUMMY: LazyLock<String> = LazyLock::new(|| {
    let salt = [7_u8; 16];
    Passwords::argon2()
        .hash_password_with_salt(b"no account has this password", &salt)
        .map(|hash| hash.to_string())
        .unwrap_or_default()
});

impl Passwords {
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            entropy,
            slots: Arc::new(Semaphore::new(cores.max(2))),
        }
    }

    fn argon2() -> Argon2<'static> {
        // OWASP's first choice: 19 MiB, two passes, one lane.
        Argon2::from(Params::new(19 * 1024, 2, 1, None).unwrap_or_default())
    }

    /// # Errors
    /// Internal, when hashing fails.
    pub fn hash_blocking(&self, password: &str) -> Result<String> {
        let mut salt = [0_u8; 16];
        self.entropy.fill(&mut salt);
        Self::argon2()
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map(|hash| hash.to_string())
            .map_err(Error::internal)
    }

    /// [`Passwords::hash_blocking`] on a thread that may block.
    ///
    /// # Errors
    /// Internal, when hashing fails.
    pub async fn hash(&self, password: String) -> Result<String> {
        let mut salt = [0_u8; 16];
        self.entropy.fill(&mut salt);
        let _slot = self.slots.acquire().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            Self::argon2()
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map(|hash| hash.to_string())
                .map_err(Error::internal)
        })
        .await
        .map_err(Error::internal)?
    }

    /// Checks against `stored`; without one it takes as long and says no.
    ///
    /// # Errors
    /// Internal, when a thread is lost.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<Verified> {
        let _slot = self.slots.acquire().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let known = stored.is_some();
            let text = stored.unwrap_or_else(|| DUMMY.clone());
            let Ok(hash) = PasswordHash::new(&text) else {
                return Verified::No;
            };
            let right = Self::argon2()
                .verify_password(password.as_bytes(), &hash)
                .is_ok();
            if !right || !known {
                return Verified::No;
            }
            let current = Self::argon2();
            let old = Params::try_from(&hash).map_or(true, |stored| {
                stored.m_cost() != current.params().m_cost()
                    || stored.t_cost() != current.params().t_cost()
                    || stored.p_cost() != current.params().p_cost()
            });
            if old {
                Verified::YesButOld
            } else {
                Verified::Yes
            }
        })
        .await
        .map_err(Error::internal)
    }
}

/// Whether a new password keeps the rules: long enough, not a common one, not made of the account's
/// own name.
///
/// # Errors
/// A validation error for `field`.
pub fn check_rules(field: &'static str, password: &str, email: &str) -> Result<()> {
    let chars = password.chars().count();
    if chars < MIN_CHARS || password.len() > MAX_BYTES {
        return Err(Error::field(
            field,
            format!("{field} must have between {MIN_CHARS} and {MAX_BYTES} characters"),
        ));
    }
    if password.contains('\0') {
        return Err(Error::field(
            field,
            format!("{field} must not contain a NUL character"),
        ));
    }
    let lower = password.to_lowercase();
    let letters: String = lower.chars().filter(|c| c.is_alphabetic()).collect();
    let mut kinds: Vec<char> = lower.chars().collect();
    kinds.sort_unstable();
    kinds.dedup();
    let run = lower
        .as_bytes()
        .windows(2)
        .filter(|w| w[1].wrapping_sub(w[0]) <= 1)
        .count();
    let local = email.split('@').next().unwrap_or_default().to_lowercase();
    let common = COMMON
        .iter()
        .any(|word| letters == *word || letters == word.repeat(2));
    if common || kinds.len() < 5 || run + 2 >= lower.len() {
        return Err(Error::field(field, format!("{field} is too easy to guess")));
    }
    if local.len() >= 4 && (letters == local || lower == email.to_lowercase()) {
        return Err(Error::field(
            field,
            format!("{field} must not be the e-mail address"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_common_and_personal_passwords_are_refused() {
        for bad in [
            "short",
            "password1234",
            "aaaaaaaaaaaaaa",
            "12345678901234",
            "anna.meier@x.org",
        ] {
            assert!(
                check_rules("password", bad, "anna.meier@x.org").is_err(),
                "{bad}"
            );
        }
        assert!(check_rules("password", "correct horse battery", "a@x.org").is_ok());
    }
}
