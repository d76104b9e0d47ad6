//! Containers: making, reading, starting, stopping and deleting them. What is wanted commits here;
//! `crate::jobs::containers` makes it so.
//!
//! To add an action: its permission and state rules here, its job in `crate::jobs`.

use std::time::{Duration, Instant};

use crate::db::containers::{ContainerRow, Filter, OwnedRow};
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, AuditEntry, Event};
use crate::domain::ctx::Ctx;
use crate::domain::idempotency;
use crate::domain::ids::{ContainerId, UserId};
use crate::domain::images::ImageStatus;
use crate::domain::jobs::{self, JobKind, NewJob};
use crate::domain::page::{Page, PageRequest};
use crate::domain::permissions::Permissions;
use crate::domain::text_enum::text_enum;
use crate::domain::time::Time;
use crate::error::{Error, FieldError, Result};

text_enum! {
    /// What is so.
    ContainerState {
        Provisioning = "provisioning",
        Running = "running",
        Stopped = "stopped",
        Failed = "failed",
        Deleting = "deleting",
    }
}

text_enum! {
    /// What should be so.
    Wanted {
        Running = "running",
        Stopped = "stopped",
        Deleted = "deleted",
    }
}

/// Smallest and largest disk, in GiB.
pub const DISK_GB: (i64, i64) = (18, 32);
/// Least memory, in MiB.
pub const MEMORY_MIN_MB: i64 = 128;
/// How long start, stop and restart wait for their confirmation.
const CONFIRM_WITHIN: Duration = Duration::from_secs(60);
/// Jobs that may wait for one container.
const OPEN_JOBS: usize = 8;

/// A Linux box, as its viewer sees it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Container {
    pub id: ContainerId,
    pub user_id: UserId,
    pub owner_name: String,
    pub owner_email: String,
    pub hostname: String,
    pub image: String,
    pub node_name: String,
    pub state: ContainerState,
    /// Why it is in that state, where that is worth telling.
    pub state_reason: Option<String>,
    pub cpu_cores: i32,
    pub memory_mb: i32,
    pub disk_gb: i32,
    pub ipv4: Option<String>,
    /// What the viewer may do.
    pub permissions: Permissions,
    pub created_at: Time,
    pub started_at: Option<Time>,
}

/// What is asked for, as it was sent.
#[derive(Debug, Clone)]
pub struct NewContainer {
    pub hostname: String,
    pub cpu_cores: i64,
    pub memory_mb: i64,
    pub disk_gb: i64,
    /// The default image when none.
    pub image: Option<String>,
    pub ssh_keys: Vec<String>,
    pub user_data: Option<String>,
}

impl Default for NewContainer {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            cpu_cores: 1,
            memory_mb: 512,
            disk_gb: DISK_GB.0,
            image: None,
            ssh_keys: Vec::new(),
            user_data: None,
        }
    }
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct ContainerQuery {
    pub state: Option<ContainerState>,
    /// A part of the hostname.
    pub q: Option<String>,
    /// An administrator's own only.
    pub mine: bool,
    pub page: PageRequest,
}

/// What may be asked for.
#[derive(Debug, Clone, Copy)]
pub struct SizeLimits {
    pub cpu_max: i64,
    pub memory_min_mb: i64,
    pub memory_max_mb: i64,
    pub disk_min_gb: i64,
    pub disk_max_gb: i64,
    /// Whether the caller may create at all.
    pub may_create: bool,
}

/// What one's containers were given in sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub containers: usize,
    pub cpu_cores: i64,
    pub memory_mb: i64,
    pub disk_gb: i64,
}

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

/// A hostname: an RFC 1123 label in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// # Errors
    /// A validation error for `hostname`.
    pub fn parse(text: &str) -> Result<Self> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ok = (1..=63).contains(&text.len())
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::field(
                "hostname",
                "hostname must be 1 to 63 lower-case letters, digits and hyphens, with no hyphen \
                 at either end",
            ))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn view(ctx: &Ctx, (row, owner_name, owner_email): OwnedRow) -> Container {
    Container {
        permissions: Permissions::of(ctx, &row.user_id),
        id: row.id,
        user_id: row.user_id,
        owner_name,
        owner_email,
        hostname: row.hostname,
        image: row.image,
        node_name: row.node_name,
        state: row.state,
        state_reason: row.state_reason,
        cpu_cores: row.cpu_cores,
        memory_mb: row.memory_mb,
        disk_gb: row.disk_gb,
        ipv4: row.ipv4,
        created_at: row.created_at,
        started_at: row.started_at,
    }
}

/// The container of that id, if the actor has the permission. Someone else's is FORBIDDEN, as the
/// contract has it: ids are not guessable, and an honest answer helps whoever was sent a link.
pub(crate) fn find(
    conn: &mut Conn,
    ctx: &Ctx,
    id: &str,
    wanted: Permissions,
) -> Result<(OwnedRow, Permissions)> {
    let missing = || Error::ContainerNotFound(id.to_owned());
    let parsed: ContainerId = id.parse().map_err(|_| missing())?;
    let row = db::containers::get(conn, &parsed)?.ok_or_else(missing)?;
    let held = Permissions::of(ctx, &row.0.user_id);
    held.require(Permissions::VIEW)?;
    held.require(wanted)?;
    Ok((row, held))
}

/// What may be asked for on this machine.
#[must_use]
pub fn limits(ctx: &Ctx) -> SizeLimits {
    let machine = ctx.app().machine;
    SizeLimits {
        cpu_max: i64::from(machine.cpus),
        memory_min_mb: MEMORY_MIN_MB,
        memory_max_mb: i64::from(machine.memory_mb),
        disk_min_gb: DISK_GB.0,
        disk_max_gb: DISK_GB.1,
        may_create: ctx.is_admin(),
    }
}

/// One's own, or for an administrator everyone's; newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx, query: ContainerQuery) -> Result<Page<Container>> {
    let caller = ctx.caller()?;
    let owner = (!ctx.is_admin() || query.mine).then(|| caller.user_id.clone());
    if query
        .q
        .as_ref()
        .is_some_and(|q| q.contains('\0') || q.len() > 63)
    {
        return Err(Error::field("q", "q must be at most 63 characters"));
    }
    let filter = Filter {
        owner,
        state: query.state,
        q: query.q.filter(|q| !q.is_empty()),
        before: query.page.before().map(str::to_owned),
        limit: query.page.fetch(),
    };
    let inner = ctx.clone();
    ctx.db()
        .read(move |conn| {
            let rows = db::containers::list(conn, &filter)?;
            let page = Page::cut(rows, &query.page, |row| row.0.id.to_string());
            Ok(page.map(|row| view(&inner, row)))
        })
        .await
}

/// What the caller's own containers were given in sum.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn usage(ctx: &Ctx) -> Result<Usage> {
    let user = ctx.caller()?.user_id.clone();
    ctx.db()
        .read(move |conn| {
            let mut sum = Usage::default();
            for (cpu, memory, disk) in db::containers::usage(conn, Some(&user))? {
                sum.containers += 1;
                sum.cpu_cores += i64::from(cpu);
                sum.memory_mb += i64::from(memory);
                sum.disk_gb += i64::from(disk);
            }
            Ok(sum)
        })
        .await
}

/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`].
pub async fn get(ctx: &Ctx, id: &str) -> Result<Container> {
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .read(move |conn| {
            let (row, _) = find(conn, &inner, &id, Permissions::VIEW)?;
            Ok(view(&inner, row))
        })
        .await
}

/// What was done with it lately, newest first.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`].
pub async fn activity(ctx: &Ctx, id: &str, limit: i64) -> Result<Vec<AuditEntry>> {
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .read(move |conn| {
            let (row, _) = find(conn, &inner, &id, Permissions::VIEW)?;
            audit::of_container(conn, &row.0.id, limit)
        })
        .await
}

/// A [`NewContainer`] that keeps the rules.
struct CheckedContainer {
    hostname: Hostname,
    cpu_cores: i32,
    memory_mb: i32,
    disk_gb: i32,
    image: Option<String>,
    ssh_keys: String,
    user_data: Option<String>,
}

fn check(ctx: &Ctx, new: NewContainer) -> Result<CheckedContainer> {
    let limits = limits(ctx);
    let mut wrong: Vec<FieldError> = Vec::new();
    let hostname = Hostname::parse(&new.hostname)
        .map_err(|e| wrong.extend(e.fields().iter().cloned()))
        .ok();
    let mut range = |field: &str, value: i64, low: i64, high: i64| {
        if !(low..=high).contains(&value) {
            let message = format!("{field} must be between {low} and {high}");
            wrong.push(FieldError {
                field: field.to_owned(),
                message,
            });
        }
        i32::try_from(value).unwrap_or_default()
    };
    let cpu_cores = range("cpu_cores", new.cpu_cores, 1, limits.cpu_max);
    let memory_mb = range(
        "memory_mb",
        new.memory_mb,
        limits.memory_min_mb,
        limits.memory_max_mb,
    );
    let disk_gb = range(
        "disk_gb",
        new.disk_gb,
        limits.disk_min_gb,
        limits.disk_max_gb,
    );
    let mut note = |field: &str, message: &str| {
        wrong.push(FieldError {
            field: field.to_owned(),
            message: message.to_owned(),
        });
    };
    let keys: Vec<&str> = new
        .ssh_keys
        .iter()
        .map(|key| key.trim())
        .filter(|key| !key.is_empty())
        .collect();
    if keys.len() > 50 || !keys.iter().all(|key| is_ssh_key(key)) {
        note(
            "ssh_keys",
            "ssh_keys must be at most 50 OpenSSH public keys, one a line each",
        );
    }
    if let Some(data) = &new.user_data
        && (data.len() > 64 * 1024 || data.contains('\0'))
    {
        note(
            "user_data",
            "user_data must be a script of at most 65536 bytes",
        );
    }
    match hostname {
        Some(hostname) if wrong.is_empty() => Ok(CheckedContainer {
            hostname,
            cpu_cores,
            memory_mb,
            disk_gb,
            image: new.image.filter(|image| !image.is_empty()),
            ssh_keys: keys.join("\n"),
            user_data: new.user_data.filter(|data| !data.is_empty()),
        }),
        _ => Err(Error::Validation(wrong)),
    }
}

fn is_ssh_key(key: &str) -> bool {
    let mut words = key.split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    let blob = words.next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    key.len() <= 8 * 1024
        && !key.chars().any(|c| c.is_control() && c != '\t')
        && known.iter().any(|prefix| kind.starts_with(prefix))
        && blob.len() >= 16
        && blob
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
}

fn resolve_image(conn: &mut Conn, asked: Option<&str>) -> Result<String> {
    let name = match asked {
        Some(name) => name.to_owned(),
        None => crate::domain::images::default_name(conn)?
            .ok_or_else(|| Error::Conflict("There is no default image yet".into()))?,
    };
    let unknown = || Error::field("image", "image must be one of those that GET /images lists");
    if name.contains('\0') {
        return Err(unknown());
    }
    let image = db::images::get(conn, &name)?.ok_or_else(unknown)?;
    if image.status == ImageStatus::Failed {
        return Err(Error::Conflict(format!(
            "Image {name} could not be made: {}",
            image.error.unwrap_or_default()
        )));
    }
    Ok(name)
}

/// Asks for a container; it is then made and started in the background.
///
/// # Errors
/// [`Error::Forbidden`] for who may not create, validation errors, [`Error::Conflict`] for a taken
/// hostname.
pub async fn create(ctx: &Ctx, new: NewContainer) -> Result<Container> {
    let caller = ctx.caller()?.clone();
    if !limits(ctx).may_create {
        return Err(Error::Forbidden(
            "You must be a member of a program that grants container creation access".into(),
        ));
    }
    let checked = check(ctx, new)?;
    let inner = ctx.clone();
    let made = ctx
        .db()
        .write(move |conn| {
            if let Some(first) = idempotency::replay::<Container>(conn, &inner, "containers")? {
                return Ok(first);
            }
            let image = resolve_image(conn, checked.image.as_deref())?;
            let taken = || Error::Conflict(format!("Hostname {} is taken", checked.hostname.0));
            // Asked first so that PostgreSQL's transaction lives on to say so in order.
            if db::containers::hostname_is_taken(conn, checked.hostname.as_str())? {
                return Err(taken());
            }
            let now = inner.now();
            let row = ContainerRow {
                id: ContainerId::new(now.utc()),
                user_id: caller.user_id.clone(),
                hostname: checked.hostname.as_str().to_owned(),
                image,
                node_name: inner.app().node_name.clone(),
                state: ContainerState::Provisioning,
                state_reason: None,
                wanted: Wanted::Running,
                cpu_cores: checked.cpu_cores,
                memory_mb: checked.memory_mb,
                disk_gb: checked.disk_gb,
                ipv4: None,
                ssh_keys: checked.ssh_keys,
                user_data: checked.user_data,
                created_at: now,
                updated_at: now,
                started_at: None,
            };
            match db::containers::insert(conn, &row) {
                Ok(()) => {}
                Err(e) if e.is_unique_violation() => {
                    return Err(Error::Conflict(format!(
                        "Hostname {} is taken",
                        row.hostname
                    )));
                }
                Err(e) => return Err(e.into()),
            }
            let job =
                NewJob::of_container(&inner, JobKind::ContainerCreate, &row.id, &row.node_name);
            jobs::queue(conn, &inner, &job)?;
            let event = Event::success(Action::ContainerCreate)
                .container(&row.id)
                .with("hostname", row.hostname.as_str());
            audit::record(conn, &inner, event)?;
            let made = view(
                &inner,
                (row, caller.display_name.clone(), caller.email.clone()),
            );
            idempotency::keep(conn, &inner, "containers", &made)?;
            Ok(made)
        })
        .await?;
    jobs::ring(ctx);
    Ok(made)
}

/// An action on an existing container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Start,
    Stop { force: bool },
    Restart,
}

impl Act {
    const fn job(self) -> JobKind {
        match self {
            Self::Start => JobKind::ContainerStart,
            Self::Stop { force: false } => JobKind::ContainerStop,
            Self::Stop { force: true } => JobKind::ContainerKill,
            Self::Restart => JobKind::ContainerRestart,
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Start => Action::ContainerStart,
            Self::Stop { .. } => Action::ContainerStop,
            Self::Restart => Action::ContainerRestart,
        }
    }

    const fn wanted(self) -> Wanted {
        match self {
            Self::Start | Self::Restart => Wanted::Running,
            Self::Stop { .. } => Wanted::Stopped,
        }
    }

    /// Whether there is nothing to do in that state.
    const fn is_done_in(self, state: ContainerState) -> bool {
        matches!(
            (self, state),
            (Self::Start, ContainerState::Running) | (Self::Stop { .. }, ContainerState::Stopped)
        )
    }
}

/// Starts it and waits for the confirmation.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::Conflict`] while it is being made
/// or deleted.
pub async fn start(ctx: &Ctx, id: &str) -> Result<Container> {
    act(ctx, id, Act::Start).await
}

/// Stops it, at once with `force`, and waits for the confirmation.
///
/// # Errors
/// As [`start`].
pub async fn stop(ctx: &Ctx, id: &str, force: bool) -> Result<Container> {
    act(ctx, id, Act::Stop { force }).await
}

/// Stops and starts it and waits for the confirmation.
///
/// # Errors
/// As [`start`].
pub async fn restart(ctx: &Ctx, id: &str) -> Result<Container> {
    act(ctx, id, Act::Restart).await
}

async fn act(ctx: &Ctx, id: &str, act: Act) -> Result<Container> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let job = ctx
        .db()
        .write(move |conn| {
            let ((row, ..), _) = find(conn, &inner, &asked, Permissions::START_STOP)?;
            match row.state {
                ContainerState::Provisioning => {
                    return Err(Error::Conflict("The container is still being made".into()));
                }
                ContainerState::Deleting => {
                    return Err(Error::Conflict("The container is being deleted".into()));
                }
                ContainerState::Running | ContainerState::Stopped | ContainerState::Failed => {}
            }
            let open = db::jobs::open_for(conn, &row.id)?;
            if open.len() >= OPEN_JOBS {
                return Err(Error::Conflict(
                    "Too many actions wait for this container".into(),
                ));
            }
            audit::record(
                conn,
                &inner,
                Event::success(act.action()).container(&row.id),
            )?;
            if act.is_done_in(row.state) && open.is_empty() {
                return Ok(None);
            }
            db::containers::set_wanted(conn, &row.id, act.wanted(), inner.now())?;
            let job = NewJob::of_container(&inner, act.job(), &row.id, &row.node_name);
            jobs::queue(conn, &inner, &job)?;
            Ok(Some(job.id))
        })
        .await?;
    if let Some(job) = job {
        jobs::ring(ctx);
        jobs::wait(ctx, &job, CONFIRM_WITHIN).await?;
    }
    get(ctx, id).await
}

/// Deletes it with its disk and waits until it is gone. What was asked is kept: when it takes
/// longer than the wait, it goes on in the background. `force` kills at once and tries again
/// where a delete failed.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::Conflict`] when it cannot be
/// removed.
pub async fn delete(ctx: &Ctx, id: &str, force: bool) -> Result<()> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let job = ctx
        .db()
        .write(move |conn| {
            let ((row, ..), _) = find(conn, &inner, &asked, Permissions::DELETE)?;
            let open = db::jobs::open_for(conn, &row.id)?;
            let pending = open.iter().find(|job| job.kind == JobKind::ContainerDelete);
            if let Some(pending) = pending
                && !force
            {
                return Ok(pending.id.clone());
            }
            let now = inner.now();
            db::containers::set_wanted(conn, &row.id, Wanted::Deleted, now)?;
            let state = ContainerState::Deleting;
            db::containers::set_state(conn, &row.id, state, None, None, now)?;
            db::commands::fail_queued(conn, &row.id, "The container was deleted", now)?;
            let job =
                NewJob::of_container(&inner, JobKind::ContainerDelete, &row.id, &row.node_name);
            jobs::queue(conn, &inner, &job)?;
            let event = Event::success(Action::ContainerDelete)
                .container(&row.id)
                .with("hostname", row.hostname.as_str());
            audit::record(conn, &inner, event)?;
            Ok(job.id)
        })
        .await?;
    jobs::ring(ctx);
    match jobs::wait(ctx, &job, CONFIRM_WITHIN).await? {
        Some(Some(reason)) => Err(Error::Conflict(reason)),
        Some(None) | None => Ok(()),
    }
}

/// What it uses now.
///
/// # Errors
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::RuntimeUnavailable`].
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
    let runtime = &ctx.app().runtime;
    let now = match runtime.metrics(&row.id).await {
        Ok(metrics) => metrics,
        // It ended between the read and the measurement.
        Err(crate::runtime::RuntimeError::NotRunning | crate::runtime::RuntimeError::NotFound) => {
            return Ok(none);
        }
        Err(e) => return Err(Error::from_runtime(e)),
    };
    let mib = |bytes: u64| bytes / (1024 * 1024);
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
/// [`Error::ContainerNotFound`], [`Error::Forbidden`], [`Error::RuntimeUnavailable`].
pub async fn logs(ctx: &Ctx, id: &str, lines: usize) -> Result<String> {
    let (inner, asked) = (ctx.clone(), id.to_owned());
    let row = ctx
        .db()
        .read(move |conn| Ok(find(conn, &inner, &asked, Permissions::VIEW)?.0.0))
        .await?;
    match ctx.app().runtime.logs(&row.id, lines).await {
        Ok(text) => Ok(text),
        Err(crate::runtime::RuntimeError::NotFound) => Ok(String::new()),
        Err(e) => Err(Error::from_runtime(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_lower_case_labels() {
        for good in ["a", "web-1", "0x", &"a".repeat(63)] {
            assert!(Hostname::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "ä",
            "a b",
            "a\0",
            &"a".repeat(64),
        ] {
            assert!(Hostname::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ssh_keys_are_recognised() {
        assert!(is_ssh_key(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0b comment"
        ));
        assert!(!is_ssh_key(
            "command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0b"
        ));
        assert!(!is_ssh_key("hello"));
    }
}
