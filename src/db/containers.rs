//! Queries about containers. One more: a function here; rules stay in `domain::containers`.

use diesel::prelude::*;

use super::schema::{container_members, containers, users};
use super::{Conn, Result};
use crate::domain::containers::{ContainerState, Wanted};
use crate::domain::ids::{ContainerId, UserId};
use crate::domain::time::Time;

/// A row of `containers`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = containers)]
pub struct ContainerRow {
    pub id: ContainerId,
    pub user_id: UserId,
    pub hostname: String,
    pub image: String,
    pub node_name: String,
    pub state: ContainerState,
    pub state_reason: Option<String>,
    pub wanted: Wanted,
    pub cpu_cores: i32,
    pub memory_mb: i32,
    pub disk_gb: i32,
    pub ipv4: Option<String>,
    /// One key a line.
    pub ssh_keys: String,
    pub user_data: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
    pub started_at: Option<Time>,
}

/// A row with its owner's display name and e-mail address.
pub type OwnedRow = (ContainerRow, String, String);

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one user.
    pub owner: Option<UserId>,
    /// Of one user, or shared with that user.
    pub visible_to: Option<UserId>,
    pub state: Option<ContainerState>,
    /// A part of the hostname.
    pub q: Option<String>,
    /// Older than the one of this id.
    pub before: Option<String>,
    pub limit: i64,
}

pub fn insert(conn: &mut Conn, row: &ContainerRow) -> Result<()> {
    diesel::insert_into(containers::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, id: &ContainerId) -> Result<Option<OwnedRow>> {
    Ok(containers::table
        .inner_join(users::table)
        .filter(containers::id.eq(id))
        .select((ContainerRow::as_select(), users::display_name, users::email))
        .first(conn)
        .optional()?)
}

/// Holds a row until the transaction ends, so that what is read from here on of its state and its
/// jobs belongs together: elsewhere than in SQLite, whose writers wait for each other, each
/// statement sees what others have committed by then.
pub fn hold(conn: &mut Conn, id: &ContainerId) -> Result<()> {
    if let Conn::Postgres(pg) = conn {
        let _held: Option<ContainerId> = containers::table
            .filter(containers::id.eq(id))
            .select(containers::id)
            .for_no_key_update()
            .first(pg)
            .optional()?;
    }
    Ok(())
}

/// Newest first.
pub fn list(conn: &mut Conn, filter: &Filter) -> Result<Vec<OwnedRow>> {
    let mut query = containers::table
        .inner_join(users::table)
        .order(containers::id.desc())
        .limit(filter.limit)
        .select((ContainerRow::as_select(), users::display_name, users::email))
        .into_boxed();
    if let Some(owner) = &filter.owner {
        query = query.filter(containers::user_id.eq(owner.clone()));
    }
    if let Some(user) = &filter.visible_to {
        let shared = container_members::table
            .filter(container_members::user_id.eq(user.clone()))
            .select(container_members::container_id);
        query = query.filter(
            containers::user_id
                .eq(user.clone())
                .or(containers::id.eq_any(shared)),
        );
    }
    if let Some(state) = filter.state {
        query = query.filter(containers::state.eq(state));
    }
    if let Some(q) = &filter.q {
        // A hostname has none of LIKE's own characters but those the user types as such.
        let escaped = q
            .replace('\\', "\\\\")
            .replace('%', "\\%")
            .replace('_', "\\_");
        query = query.filter(
            containers::hostname
                .like(format!("%{escaped}%"))
                .escape('\\'),
        );
    }
    if let Some(before) = &filter.before {
        query = query.filter(containers::id.lt(before.clone()));
    }
    Ok(query.load(conn)?)
}

/// Every container that is on that node.
pub fn list_on_node(conn: &mut Conn, node: &str) -> Result<Vec<ContainerRow>> {
    Ok(containers::table
        .filter(containers::node_name.eq(node))
        .select(ContainerRow::as_select())
        .load(conn)?)
}

pub fn hostname_is_taken(conn: &mut Conn, hostname: &str) -> Result<bool> {
    Ok(containers::table
        .filter(containers::hostname.eq(hostname))
        .select(containers::id)
        .first::<ContainerId>(conn)
        .optional()?
        .is_some())
}

/// CPUs, MiB and GiB given to the containers of one user, and how many those are.
pub fn usage(conn: &mut Conn, owner: Option<&UserId>) -> Result<Vec<(i32, i32, i32)>> {
    let mut query = containers::table
        .select((
            containers::cpu_cores,
            containers::memory_mb,
            containers::disk_gb,
        ))
        .into_boxed();
    if let Some(owner) = owner {
        query = query.filter(containers::user_id.eq(owner.clone()));
    }
    Ok(query.load(conn)?)
}

pub fn set_wanted(conn: &mut Conn, id: &ContainerId, wanted: Wanted, now: Time) -> Result<()> {
    diesel::update(containers::table.find(id))
        .set((
            containers::wanted.eq(wanted),
            containers::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

/// What is so from now on; only a running one has a start time.
pub fn set_state(
    conn: &mut Conn,
    id: &ContainerId,
    state: ContainerState,
    reason: Option<&str>,
    started_at: Option<Time>,
    now: Time,
) -> Result<()> {
    diesel::update(containers::table.find(id))
        .set((
            containers::state.eq(state),
            containers::state_reason.eq(reason),
            containers::started_at.eq(started_at),
            containers::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

pub fn set_ipv4(conn: &mut Conn, id: &ContainerId, ipv4: Option<&str>) -> Result<()> {
    diesel::update(containers::table.find(id))
        .set(containers::ipv4.eq(ipv4))
        .execute(conn)?;
    Ok(())
}

pub fn delete(conn: &mut Conn, id: &ContainerId) -> Result<()> {
    diesel::delete(containers::table.find(id)).execute(conn)?;
    Ok(())
}
