//! What a running box uses now, and the widths of its meters.
//!
//! To show another measurement, add it to [`Usage`] and to `templates/components/usage.html`.

use super::BoxView;
use crate::domain::containers;
use crate::web::pages::mark::Mark;
use crate::web::pages::say;
use crate::web::pages::shell::Frame;

/// The measured present of a running box.
#[derive(Debug, Clone)]
pub struct Usage {
    pub cpu_percent: f64,
    pub cpu_cores: u32,
    pub memory_used_mb: u64,
    pub memory_limit_mb: u64,
    pub disk_used_mb: u64,
    pub disk_limit_mb: u64,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub processes: u64,
}

impl Usage {
    /// With one decimal below ten: `3.2`, `48`.
    #[must_use]
    pub fn cpu(&self) -> String {
        if self.cpu_percent < 10.0 {
            format!("{:.1}", self.cpu_percent)
        } else {
            format!("{:.0}", self.cpu_percent)
        }
    }

    /// Per mille of what was given.
    #[must_use]
    pub fn cpu_share(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0–1000 before the cast"
        )]
        let share = (self.cpu_percent * 10.0).clamp(0.0, 1_000.0) as u64;
        share
    }

    #[must_use]
    pub fn memory_share(&self) -> u64 {
        per_mille(self.memory_used_mb, self.memory_limit_mb)
    }

    #[must_use]
    pub fn disk_share(&self) -> u64 {
        per_mille(self.disk_used_mb, self.disk_limit_mb)
    }

    #[must_use]
    pub fn memory_used(&self) -> String {
        say::mebibytes(self.memory_used_mb)
    }

    #[must_use]
    pub fn memory_limit(&self) -> String {
        say::mebibytes(self.memory_limit_mb)
    }

    #[must_use]
    pub fn disk_used(&self) -> String {
        say::mebibytes(self.disk_used_mb)
    }

    #[must_use]
    pub fn disk_limit(&self) -> String {
        say::mebibytes(self.disk_limit_mb)
    }

    /// By the box.
    #[must_use]
    pub fn received(&self) -> String {
        say::bytes(self.network_rx_bytes)
    }

    /// By the box.
    #[must_use]
    pub fn sent(&self) -> String {
        say::bytes(self.network_tx_bytes)
    }

    #[must_use]
    pub fn given(&self) -> String {
        say::count(u64::from(self.cpu_cores), "CPU")
    }
}

/// How much of `limit` is `used`, in thousandths, at most all of it.
fn per_mille(used: u64, limit: u64) -> u64 {
    used.saturating_mul(1_000)
        .checked_div(limit)
        .unwrap_or_default()
        .min(1_000)
}

/// Of a box that runs, what it uses; none where that cannot be told now.
pub async fn of(frame: &Frame, container: &BoxView) -> Option<Usage> {
    if container.state != Mark::Running || !container.may.read_metrics {
        return None;
    }
    match containers::metrics(&frame.ctx, &container.id).await {
        Ok(now) => Some(Usage {
            cpu_percent: now.cpu_percent,
            cpu_cores: container.cpu_cores,
            memory_used_mb: now.memory_used_mb,
            memory_limit_mb: now.memory_limit_mb,
            disk_used_mb: now.disk_used_mb,
            disk_limit_mb: now.disk_limit_mb,
            network_rx_bytes: now.network_rx_bytes,
            network_tx_bytes: now.network_tx_bytes,
            processes: now.processes,
        }),
        // The rest of the page is worth having without.
        Err(error) => {
            tracing::warn!(%error, container = container.id, "a box could not be measured");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_meter() {
        assert_eq!(per_mille(5, 0), 0);
        assert_eq!(per_mille(256, 512), 500);
        assert_eq!(per_mille(600, 512), 1_000);
    }
}
