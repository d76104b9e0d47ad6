//! Secrets that must be read again, such as the seeds of one-time codes: sealed with a key that is
//! in the data directory and not in the database, so that neither alone gives them away.
//!
//! To seal something new, give it a purpose of its own: what was sealed for one opens for no other.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::app::Entropy;
use crate::error::{Error, Result};

const NONCE_LEN: usize = 12;

/// Seals and opens.
#[derive(Clone)]
pub struct Sealer(Aes256Gcm);

impl Sealer {
    /// With a key derived from `master`, which must be secret and stay the same.
    ///
    /// # Errors
    /// Internal only.
    pub fn new(master: &[u8]) -> Result<Self> {
        let mut key = [0_u8; 32];
        Hkdf::<Sha256>::new(None, master)
            .expand(b"hzel sealed 1", &mut key)
            .map_err(Error::internal)?;
        Ok(Self(Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&key))))
    }

    /// Seals `secret` for `purpose`, which names the kind of thing and whose it is.
    ///
    /// # Errors
    /// Internal only.
    pub fn seal(&self, purpose: &str, secret: &[u8], entropy: &dyn Entropy) -> Result<String> {
        let mut nonce = [0_u8; NONCE_LEN];
        entropy.fill(&mut nonce);
        let payload = Payload {
            msg: secret,
            aad: purpose.as_bytes(),
        };
        let sealed = self
            .0
            .encrypt(Nonce::from_slice(&nonce), payload)
            .map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed for `purpose`; none when it was not, or not by this key.
    #[must_use]
    pub fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let payload = Payload {
            msg: sealed,
            aad: purpose.as_bytes(),
        };
        self.0.decrypt(Nonce::from_slice(nonce), payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::SystemEntropy;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_key_only() {
        let sealer = Sealer::new(b"a master key").unwrap();
        let sealed = sealer.seal("totp a", b"seed", &SystemEntropy).unwrap();
        assert_eq!(sealer.open("totp a", &sealed).unwrap(), b"seed");
        assert!(sealer.open("totp b", &sealed).is_none());
        assert!(sealer.open("totp a", &sealed[1..]).is_none());
        assert!(sealer.open("totp a", "").is_none());
        let other = Sealer::new(b"another key").unwrap();
        assert!(other.open("totp a", &sealed).is_none());
    }
}
