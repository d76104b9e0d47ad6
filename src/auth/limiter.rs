//! What slows guessing down: after a few failures an account, or an address, waits longer and
//! longer before the next try.
//!
//! To limit something else, give it a key of its own kind in [`Limiter::check`].

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::domain::time::Time;
use crate::error::{Error, Result};

/// Failures that cost nothing.
const FREE: u32 = 5;
/// The longest wait.
const LONGEST: i64 = 15 * 60;
/// Entries kept; past it the oldest go.
const ENTRIES: usize = 20_000;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Time,
}

/// Failures by key, in memory: a restart forgives.
#[derive(Debug)]
pub struct Limiter {
    on: bool,
    failures: Mutex<HashMap<String, Failures>>,
}

impl Limiter {
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self {
            on,
            failures: Mutex::default(),
        }
    }

    /// Whether `key` may try now.
    ///
    /// # Errors
    /// [`Error::RateLimited`] with the rest of the wait.
    pub fn check(&self, key: &str, now: Time) -> Result<()> {
        if !self.on {
            return Ok(());
        }
        let failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(known) = failures.get(key) else {
            return Ok(());
        };
        let rest = wait_after(known.count) - now.since(known.last).num_seconds();
        match u64::try_from(rest) {
            Ok(rest) if rest > 0 => Err(Error::RateLimited {
                retry_after: Duration::from_secs(rest),
            }),
            _ => Ok(()),
        }
    }

    pub fn failed(&self, key: &str, now: Time) {
        if !self.on {
            return;
        }
        let mut failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if failures.len() >= ENTRIES {
            failures.retain(|_, f| now.since(f.last).num_seconds() < LONGEST);
        }
        let entry = failures.entry(key.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
        });
        if now.since(entry.last).num_seconds() > 2 * LONGEST {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    pub fn succeeded(&self, key: &str) {
        self.failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(key);
    }
}

/// Seconds to wait after that many failures.
fn wait_after(count: u32) -> i64 {
    if count < FREE {
        0
    } else {
        (1_i64 << (count - FREE).min(20)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    #[test]
    fn the_wait_grows_and_ends() {
        let limiter = Limiter::new(true);
        let now = Time::from(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        for _ in 0..FREE {
            assert!(limiter.check("a", now).is_ok());
            limiter.failed("a", now);
        }
        assert!(limiter.check("a", now).is_err());
        assert!(limiter.check("b", now).is_ok());
        assert!(limiter.check("a", now.plus(TimeDelta::seconds(2))).is_ok());
        limiter.succeeded("a");
        assert!(limiter.check("a", now).is_ok());
        assert_eq!(wait_after(40), LONGEST);
    }
}
