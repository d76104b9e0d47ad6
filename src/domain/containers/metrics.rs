//! What a container uses, and what its console says.
//!
//! To measure one more thing: a field in [`ContainerMetrics`] and in the driver's `Metrics`.

use std::time::{Duration, Instant};

use super::{ContainerState, find, require_here};
use crate::db::containers::ContainerRow;
use crate::domain::ctx::Ctx;
use crate::domain::permissions::Permissions;
use crate::error::{Error, Result};
use crate::runtime::RuntimeError;

/// A measurement; of one that does not run, only the disk's numbers are not zero.
#[derive(Debug, Clone, Default, serde::Serialize, utoipa::ToSchema)]
pub struct ContainerMetrics {
    /// 0 to 100, of what it was given.
    pub cpu_percent: f64,
    pub memory_used_mb: u64,
    pub memory_limit_mb: u64,
    pub disk_used_mb: u64,
    pub disk_limit_mb: u64,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub processes: u64,
    pub uptime_seconds: u64,
}
/// What it uses now.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::RuntimeUnavailable`];
/// [`Error::Conflict`] when it is on another server.
pub async fn metrics(ctx: &Ctx, id: &str) -> Result<ContainerMetrics> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let row = ctx
        .db()
        .read(move |conn| Ok(find(conn, &inner, &asked, Permissions::READ_METRICS)?.0.0))
        .await?;
    let none = ContainerMetrics {
        memory_limit_mb: u64::try_from(row.memory_mb).unwrap_or_default(),
        disk_limit_mb: u64::try_from(row.disk_gb).unwrap_or_default() * 1024,
        ..ContainerMetrics::default()
    };
    if row.state != ContainerState::Running && row.state != ContainerState::Stopped {
        return Ok(none);
    }
    require_here(ctx, &row)?;
    let runtime = &ctx.app().runtime;
    let now = match runtime.metrics(&row.id).await {
        Ok(metrics) => metrics,
        // It ended between the read and the measurement.
        Err(RuntimeError::NotRunning | RuntimeError::NotFound) => {
            return Ok(none);
        }
        Err(e) => return Err(Error::from_runtime(e)),
    };
    let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
    let mut answer = ContainerMetrics {
        cpu_percent: 0.0,
        memory_used_mb: mib(now.memory_used_bytes),
        memory_limit_mb: none.memory_limit_mb,
        disk_used_mb: mib(now.disk_used_bytes),
        disk_limit_mb: none.disk_limit_mb,
        network_rx_bytes: now.network_rx_bytes,
        network_tx_bytes: now.network_tx_bytes,
        processes: now.processes,
        uptime_seconds: now.uptime.as_secs(),
    };
    if row.state == ContainerState::Running {
        answer.cpu_percent = cpu_percent(ctx, &row, now.cpu_usage_us).await?;
    }
    Ok(answer)
}

/// The share of its CPUs that it used since the last reading; without a recent one, over the next
/// tenth of a second.
async fn cpu_percent(ctx: &Ctx, row: &ContainerRow, usage_us: u64) -> Result<f64> {
    let cell = &ctx.app().cpu_readings;
    let lock = || {
        cell.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    let now = Instant::now();
    let before = lock().get(&row.id).copied();
    let recent = before.filter(|(at, used)| {
        let age = now.duration_since(*at);
        *used <= usage_us && age >= Duration::from_millis(100) && age <= Duration::from_secs(60)
    });
    let (from, to) = match recent {
        Some(before) => (before, (now, usage_us)),
        None => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let later = ctx.app().runtime.metrics(&row.id).await;
            let later = later.map_or(usage_us, |metrics| metrics.cpu_usage_us);
            ((now, usage_us), (Instant::now(), later))
        }
    };
    lock().insert(row.id.clone(), to);
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of CPU are far below 2^52"
    )]
    let used = to.1.saturating_sub(from.1) as f64 / 1e6;
    let given = to.0.duration_since(from.0).as_secs_f64() * f64::from(row.cpu_cores.max(1));
    let percent = if given > 0.0 {
        used / given * 100.0
    } else {
        0.0
    };
    Ok((percent.clamp(0.0, 100.0) * 10.0).round() / 10.0)
}

/// The last lines of its init's console.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::RuntimeUnavailable`];
/// [`Error::Conflict`] when it is on another server.
pub async fn logs(ctx: &Ctx, id: &str, lines: Result<usize>) -> Result<String> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let row = ctx
        .db()
        .read(move |conn| Ok(find(conn, &inner, &asked, Permissions::VIEW)?.0.0))
        .await?;
    let lines = lines?;
    require_here(ctx, &row)?;
    match ctx.app().runtime.logs(&row.id, lines).await {
        Ok(text) => Ok(text),
        Err(RuntimeError::NotFound) => Ok(String::new()),
        Err(e) => Err(Error::from_runtime(e)),
    }
}
