//! What slows guessing down: after a few failures an account, or an address, waits longer and
//! longer before the next try.
//!
//! What one credential may ask in a time is here too: [`Limiter::spend`].
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
    /// Whether the present wait was told to whoever asked first, see [`Limiter::is_news`].
    told: bool,
}

/// Requests at once that a credential may make.
const BURST: f64 = 600.0;
/// Requests a second that it may make for long.
const RATE: f64 = 10.0;

/// What is left of a credential's requests.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Time,
}

/// Failures by key, in memory: a restart forgives.
#[derive(Debug)]
pub struct Limiter {
    on: bool,
    failures: Mutex<HashMap<String, Failures>>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Limiter {
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self {
            on,
            failures: Mutex::default(),
            buckets: Mutex::default(),
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
        match failures
            .get(key)
            .and_then(|known| rest_of(*known, FREE, now))
        {
            Some(rest) => Err(Error::RateLimited { retry_after: rest }),
            None => Ok(()),
        }
    }

    /// Takes one request of what `key` has left.
    ///
    /// # Errors
    /// [`Error::RateLimited`] with the time until there is one again.
    pub fn spend(&self, key: &str, now: Time) -> Result<()> {
        if !self.on {
            return Ok(());
        }
        let mut buckets = self
            .buckets
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= ENTRIES {
            // A full one is as good as none.
            buckets.retain(|_, bucket| refilled(*bucket, now) < BURST);
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket {
            left: BURST,
            at: now,
        });
        let left = refilled(*bucket, now);
        if left < 1.0 {
            return Err(Error::RateLimited {
                retry_after: Duration::from_secs_f64((1.0 - left) / RATE),
            });
        }
        *bucket = Bucket {
            left: left - 1.0,
            at: now,
        };
        Ok(())
    }

    /// Checks and counts in one step, so that many tries at the same moment are counted too. A
    /// success is then told with [`Limiter::succeeded`] or [`Limiter::refund`].
    ///
    /// # Errors
    /// [`Error::RateLimited`] with the rest of the wait.
    pub fn attempt(&self, key: &str, now: Time) -> Result<()> {
        self.attempt_with(key, FREE, now)
    }

    /// [`Limiter::attempt`] with that many failures that cost nothing.
    ///
    /// # Errors
    /// As [`Limiter::attempt`].
    pub fn attempt_with(&self, key: &str, free: u32, now: Time) -> Result<()> {
        if !self.on {
            return Ok(());
        }
        let mut failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(rest) = failures
            .get(key)
            .and_then(|known| rest_of(*known, free, now))
        {
            return Err(Error::RateLimited { retry_after: rest });
        }
        count(&mut failures, key, now);
        Ok(())
    }

    /// Takes back what [`Limiter::attempt`] counted, but not the failures before it.
    pub fn refund(&self, key: &str) {
        let mut failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = failures.get_mut(key) {
            known.count = known.count.saturating_sub(1);
        }
    }

    /// Whether this is the first refusal of the present wait: one of them is worth an entry, for
    /// whoever goes on trying could fill the table.
    #[must_use]
    pub fn is_news(&self, key: &str) -> bool {
        let mut failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        failures
            .get_mut(key)
            .is_some_and(|known| !std::mem::replace(&mut known.told, true))
    }

    pub fn failed(&self, key: &str, now: Time) {
        if !self.on {
            return;
        }
        let mut failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        count(&mut failures, key, now);
    }

    pub fn succeeded(&self, key: &str) {
        self.failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(key);
    }
}

fn refilled(bucket: Bucket, now: Time) -> f64 {
    let passed = now.since(bucket.at).to_std().unwrap_or_default();
    (bucket.left + passed.as_secs_f64() * RATE).min(BURST)
}

fn count(failures: &mut HashMap<String, Failures>, key: &str, now: Time) {
    if failures.len() >= ENTRIES {
        failures.retain(|_, f| now.since(f.last).num_seconds() < LONGEST);
    }
    let entry = failures.entry(key.to_owned()).or_insert(Failures {
        count: 0,
        last: now,
        told: false,
    });
    if now.since(entry.last).num_seconds() > 2 * LONGEST {
        entry.count = 0;
    }
    entry.count = entry.count.saturating_add(1);
    entry.last = now;
    entry.told = false;
}

/// What is left of the wait, if anything is.
fn rest_of(known: Failures, free: u32, now: Time) -> Option<Duration> {
    let rest = wait_after(known.count, free) - now.since(known.last).num_seconds();
    u64::try_from(rest)
        .ok()
        .filter(|rest| *rest > 0)
        .map(Duration::from_secs)
}

/// Seconds to wait after that many failures.
fn wait_after(count: u32, free: u32) -> i64 {
    if count < free {
        0
    } else {
        (1_i64 << (count - free).min(20)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    #[test]
    fn a_burst_is_spent_and_comes_back() {
        let limiter = Limiter::new(true);
        let now = Time::from(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        for _ in 0..600 {
            assert!(limiter.spend("a", now).is_ok());
        }
        assert!(limiter.spend("a", now).is_err());
        assert!(limiter.spend("b", now).is_ok());
        let later = now.plus(TimeDelta::seconds(1));
        for _ in 0..10 {
            assert!(limiter.spend("a", later).is_ok());
        }
        assert!(limiter.spend("a", later).is_err());
    }

    #[test]
    fn the_wait_grows_and_ends() {
        let limiter = Limiter::new(true);
        let now = Time::from(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        for _ in 0..FREE {
            assert!(limiter.check("a", now).is_ok());
            limiter.failed("a", now);
        }
        assert!(limiter.check("a", now).is_err());
        assert!(limiter.is_news("a"));
        assert!(!limiter.is_news("a"));
        assert!(limiter.check("b", now).is_ok());
        assert!(limiter.check("a", now.plus(TimeDelta::seconds(2))).is_ok());
        limiter.succeeded("a");
        assert!(limiter.check("a", now).is_ok());
        assert_eq!(wait_after(40, FREE), LONGEST);
    }
}
