//! What a container uses, read from the kernel's own files: nothing runs inside for it.

use std::time::Duration;

use chrono::Utc;

use super::disk;
use super::engine::{Engine, Live, lock};
use super::fault::{Context as _, blocking};
use crate::domain::ids::ContainerId;
use crate::runtime::{Metrics, RuntimeError};

const READ: &str = "could not read the container's metrics";

impl Engine {
    /// Reads them all; of a stopped container only its disk's.
    pub(super) async fn metrics(
        self: &std::sync::Arc<Self>,
        id: &ContainerId,
    ) -> Result<Metrics, RuntimeError> {
        let entry = self.existing(id)?;
        let (engine, id) = (std::sync::Arc::clone(self), id.clone());
        let Some(live) = entry.live() else {
            return blocking(move || engine.metrics_of_stopped(&id)).await;
        };
        let (slot, memory_mb) = {
            let record = lock(&entry.record);
            (record.slot, record.spec.memory_mb)
        };
        let (files, network) = tokio::join!(
            blocking(move || engine.metrics_of_running(&id, &live)),
            self.network.counters(slot.0)
        );
        let (network_rx_bytes, network_tx_bytes) = network?;
        let memory_limit_bytes = u64::from(memory_mb) << 20;
        Ok(Metrics {
            network_rx_bytes,
            network_tx_bytes,
            memory_limit_bytes,
            ..files?
        })
    }

    fn metrics_of_stopped(&self, id: &ContainerId) -> Result<Metrics, RuntimeError> {
        let (taken, size) = disk::allocated(&self.layout.disk(id)).or_fail(READ)?;
        Ok(Metrics {
            disk_used_bytes: taken,
            disk_limit_bytes: size,
            ..Metrics::default()
        })
    }

    fn metrics_of_running(&self, id: &ContainerId, live: &Live) -> Result<Metrics, RuntimeError> {
        let counters = self
            .cgroups
            .counters(&self.layout.cgroup(id))
            .or_fail(READ)?;
        let root = format!("/proc/{}/root", live.process.id.pid);
        let disk = rustix::fs::statvfs(root).or_fail(READ)?;
        Ok(Metrics {
            cpu_usage_us: counters.cpu_usage_us,
            memory_used_bytes: counters.memory_bytes,
            disk_used_bytes: (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            disk_limit_bytes: disk.f_blocks * disk.f_frsize,
            processes: counters.processes,
            uptime: (Utc::now() - live.state.started_at)
                .to_std()
                .unwrap_or(Duration::ZERO),
            ..Metrics::default()
        })
    }
}
