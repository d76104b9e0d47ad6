//! Containers: what they are, and reading them. Making them is in [`create`], starting, stopping
//! and deleting in [`act`], measuring in [`metrics`]. What is wanted commits there;
//! `crate::jobs::containers` makes it so.
//!
//! To add an action: its permission and state rules in [`act`], its job in `crate::jobs`.

mod act;
mod create;
mod metrics;

use std::collections::HashMap;

use crate::db::containers::{ContainerRow, Filter, OwnedRow};
use crate::db::{self, Conn};
use crate::domain::audit::{self, AuditEntry};
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Audience, Change};
use crate::domain::ids::{ContainerId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::permissions::Permissions;
use crate::domain::text_enum::text_enum;
use crate::domain::time::Time;
use crate::error::{Error, Result};

pub use self::act::{delete, restart, start, stop};
pub use self::create::{Hostname, NewContainer, create};
pub use self::metrics::{ContainerMetrics, logs, metrics};

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

fn view((row, owner_name, owner_email): OwnedRow, permissions: Permissions) -> Container {
    Container {
        permissions,
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
    let shared = match ctx.user_id() {
        Some(user) if *user != row.0.user_id => db::members::get(conn, &parsed, user)?,
        _ => None,
    };
    let held = Permissions::of(ctx, &row.0.user_id, shared);
    held.require(Permissions::VIEW)?;
    held.require(wanted)?;
    Ok((row, held))
}

/// As [`find`], for who decides by its state and its jobs what to do: they stay as they are until
/// the transaction ends.
pub(crate) fn find_and_hold(
    conn: &mut Conn,
    ctx: &Ctx,
    id: &str,
    wanted: Permissions,
) -> Result<(OwnedRow, Permissions)> {
    if let Ok(parsed) = id.parse() {
        db::containers::hold(conn, &parsed)?;
    }
    find(conn, ctx, id, wanted)
}

/// Lets only pass what is on this machine: its files, its console and what it uses are nowhere else.
///
/// # Errors
/// [`Error::Conflict`], which says where it is.
pub(crate) fn require_here(ctx: &Ctx, row: &ContainerRow) -> Result<()> {
    if row.node_name == ctx.app().node_name {
        Ok(())
    } else {
        Err(Error::Conflict(format!(
            "The container runs on another server, {}",
            row.node_name
        )))
    }
}

/// Records what is so from now on, and tells of it, in the caller's transaction; only a running one
/// has a start time.
pub(crate) fn put_state(
    conn: &mut Conn,
    ctx: &Ctx,
    id: &ContainerId,
    state: ContainerState,
    reason: Option<&str>,
    started_at: Option<Time>,
) -> Result<()> {
    db::containers::set_state(conn, id, state, reason, started_at, ctx.now())?;
    tell_state(conn, ctx, id)
}

/// Tells how a container is now, in the caller's transaction.
pub(crate) fn tell_state(conn: &mut Conn, ctx: &Ctx, id: &ContainerId) -> Result<()> {
    let Some((row, ..)) = db::containers::get(conn, id)? else {
        return Ok(());
    };
    let audience = Audience::of(conn, id, &row.user_id)?;
    let change = Change::ContainerState {
        id: row.id,
        hostname: row.hostname,
        state: row.state,
        state_reason: row.state_reason,
        ipv4: row.ipv4,
        started_at: row.started_at,
    };
    events::publish(conn, ctx, audience, change)
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

/// One's own and what others share, or for an administrator everyone's; newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx, query: ContainerQuery) -> Result<Page<Container>> {
    let caller = ctx.caller()?;
    let user = caller.user_id.clone();
    if query
        .q
        .as_ref()
        .is_some_and(|q| q.contains('\0') || q.len() > 63)
    {
        return Err(Error::field("q", "q must be at most 63 characters"));
    }
    let filter = Filter {
        owner: query.mine.then(|| user.clone()),
        visible_to: (!ctx.is_admin()).then(|| user.clone()),
        state: query.state,
        q: query.q.filter(|q| !q.is_empty()),
        before: query.page.before().map(str::to_owned),
        limit: query.page.fetch(),
    };
    let inner = ctx.clone();
    ctx.db()
        .read(move |conn| {
            let rows = db::containers::list(conn, &filter)?;
            let strange = rows.iter().any(|row| row.0.user_id != user);
            let shared: HashMap<ContainerId, i32> = if strange && !inner.is_admin() {
                db::members::of_user(conn, &user)?.into_iter().collect()
            } else {
                HashMap::new()
            };
            let page = Page::cut(rows, &query.page, |row| row.0.id.to_string());
            Ok(page.map(|row| {
                let shared = shared.get(&row.0.id).copied();
                let held = Permissions::of(&inner, &row.0.user_id, shared);
                view(row, held)
            }))
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
            let (row, held) = find(conn, &inner, &id, Permissions::VIEW)?;
            Ok(view(row, held))
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
