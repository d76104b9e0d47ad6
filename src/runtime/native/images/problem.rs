//! Why making an image failed, before it is known under which name.

use std::io;

use crate::runtime::RuntimeError;

/// What went wrong.
#[derive(Debug)]
pub enum Problem {
    /// The source is at fault; a sentence for people.
    Broken(String),
    /// This machine's disk is (nearly) full; a sentence for people.
    NoSpace(String),
    /// Something is missing on this machine; the sentence says how to mend it.
    Missing(String),
    /// Nobody waits for it any more.
    Abandoned,
    /// Anything else, for the log.
    Failed(String),
}

impl Problem {
    /// With the image's name, as the trait reports it.
    pub fn of(self, name: &str) -> RuntimeError {
        match self {
            Self::Broken(reason) => RuntimeError::ImageBroken {
                name: name.to_owned(),
                reason,
            },
            Self::NoSpace(text) => RuntimeError::NoSpace(text),
            Self::Missing(text) => RuntimeError::Unavailable(text),
            Self::Abandoned => RuntimeError::Failed {
                what: "the image was not made",
                cause: "it was abandoned".into(),
            },
            Self::Failed(cause) => RuntimeError::Failed {
                what: "the image could not be made",
                cause,
            },
        }
    }
}

impl From<io::Error> for Problem {
    fn from(cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                Self::NoSpace("the disk of the image store is full".into())
            }
            _ => Self::Failed(cause.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Problem {
    fn from(cause: rustix::io::Errno) -> Self {
        io::Error::from(cause).into()
    }
}
