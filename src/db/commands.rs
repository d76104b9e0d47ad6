//! Queries about commands. One more: a function here; rules stay in `domain::commands`.

use diesel::prelude::*;

use super::schema::{commands, containers};
use super::{Conn, Result};
use crate::domain::commands::CommandStatus;
use crate::domain::ids::{CommandId, ContainerId, UserId};
use crate::domain::time::Time;

/// A row of `commands`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = commands)]
pub struct CommandRow {
    pub id: CommandId,
    pub container_id: ContainerId,
    pub requested_by: UserId,
    pub node_name: String,
    /// As it is shown.
    pub command: String,
    /// What is run, as JSON.
    pub spec: String,
    pub timeout_seconds: i32,
    pub status: CommandStatus,
    pub cancel_requested: bool,
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub truncated: bool,
    pub error: Option<String>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
}

diesel::define_sql_function! {
    /// So many characters of a text, the first is number 1.
    fn substr(
        text: diesel::sql_types::Text,
        from: diesel::sql_types::Integer,
        length: diesel::sql_types::Integer,
    ) -> diesel::sql_types::Text;
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ending {
    pub status: CommandStatus,
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub truncated: bool,
    pub error: Option<String>,
}

pub fn insert(conn: &mut Conn, row: &CommandRow) -> Result<()> {
    diesel::insert_into(commands::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, id: &CommandId) -> Result<Option<CommandRow>> {
    Ok(commands::table
        .find(id)
        .select(CommandRow::as_select())
        .first(conn)
        .optional()?)
}

/// How far it is, without its output.
pub fn outcome(conn: &mut Conn, id: &CommandId) -> Result<Option<(CommandStatus, Option<i32>)>> {
    Ok(commands::table
        .find(id)
        .select((commands::status, commands::exit_code))
        .first(conn)
        .optional()?)
}

/// Whether it was asked to end; false when it is gone.
pub fn is_cancel_requested(conn: &mut Conn, id: &CommandId) -> Result<bool> {
    let asked: Option<bool> = commands::table
        .find(id)
        .select(commands::cancel_requested)
        .first(conn)
        .optional()?;
    Ok(asked.unwrap_or(false))
}

/// Of one container, newest first, older than `before`, with so many characters of their output and
/// an empty `spec`: the whole of two hundred may be a gigabyte.
pub fn list(
    conn: &mut Conn,
    container: &ContainerId,
    before: Option<&str>,
    limit: i64,
    characters: i32,
) -> Result<Vec<CommandRow>> {
    let mut query = commands::table
        .filter(commands::container_id.eq(container))
        .order(commands::id.desc())
        .limit(limit)
        .select((
            commands::id,
            commands::container_id,
            commands::requested_by,
            commands::node_name,
            commands::command,
            "".into_sql::<diesel::sql_types::Text>(),
            commands::timeout_seconds,
            commands::status,
            commands::cancel_requested,
            commands::exit_code,
            substr(commands::stdout, 1, characters),
            substr(commands::stderr, 1, characters),
            commands::truncated,
            commands::error,
            commands::created_at,
            commands::started_at,
            commands::finished_at,
        ))
        .into_boxed();
    if let Some(before) = before {
        query = query.filter(commands::id.lt(before.to_owned()));
    }
    Ok(query.load(conn)?)
}

/// Whose commands wait on that node, in which container, and the oldest of each: one row for each
/// two, however many wait.
pub fn waiting(conn: &mut Conn, node: &str) -> Result<Vec<(UserId, ContainerId, CommandId)>> {
    let rows: Vec<(UserId, ContainerId, Option<CommandId>)> = commands::table
        .filter(
            commands::node_name
                .eq(node)
                .and(commands::status.eq(CommandStatus::Queued)),
        )
        .group_by((commands::requested_by, commands::container_id))
        .select((
            commands::requested_by,
            commands::container_id,
            diesel::dsl::min(commands::id),
        ))
        .load(conn)?;
    let whole = |(user, container, id): (_, _, Option<CommandId>)| Some((user, container, id?));
    Ok(rows.into_iter().filter_map(whole).collect())
}

/// Those of a container that wait.
pub fn queued_in(conn: &mut Conn, container: &ContainerId) -> Result<Vec<CommandId>> {
    Ok(commands::table
        .filter(commands::container_id.eq(container))
        .filter(commands::status.eq(CommandStatus::Queued))
        .select(commands::id)
        .load(conn)?)
}

/// All of a container.
pub fn ids_of(conn: &mut Conn, container: &ContainerId) -> Result<Vec<CommandId>> {
    Ok(commands::table
        .filter(commands::container_id.eq(container))
        .select(commands::id)
        .load(conn)?)
}

/// Those that a server that is gone had begun on that node.
pub fn running(conn: &mut Conn, node: &str) -> Result<Vec<CommandRow>> {
    Ok(commands::table
        .filter(
            commands::node_name
                .eq(node)
                .and(commands::status.eq(CommandStatus::Running)),
        )
        .select(CommandRow::as_select())
        .load(conn)?)
}

/// How many of a container's wait or run.
pub fn count_open(conn: &mut Conn, container: &ContainerId) -> Result<i64> {
    Ok(commands::table
        .filter(commands::container_id.eq(container))
        .filter(commands::status.eq_any([CommandStatus::Queued, CommandStatus::Running]))
        .count()
        .get_result(conn)?)
}

/// Those of a node that ended so before `before`, the oldest first.
pub fn ended_before(
    conn: &mut Conn,
    node: &str,
    status: CommandStatus,
    before: Time,
    limit: i64,
) -> Result<Vec<CommandId>> {
    // Ids sort by time, and nothing ends before it was asked for: with this bound the index
    // `commands_open` leads to them, and no row of a later one is looked at.
    let bound = CommandId::new(before.utc());
    Ok(commands::table
        .filter(
            commands::node_name
                .eq(node)
                .and(commands::status.eq(status))
                .and(commands::id.lt(bound)),
        )
        .filter(commands::finished_at.lt(before))
        .order(commands::id.asc())
        .limit(limit)
        .select(commands::id)
        .load(conn)?)
}

/// A node's containers with more than `most` commands; their index alone counts them.
pub fn crowded(conn: &mut Conn, node: &str, most: i64) -> Result<Vec<ContainerId>> {
    let counted: Vec<ContainerId> = commands::table
        .group_by(commands::container_id)
        .having(diesel::dsl::count_star().gt(most))
        .select(commands::container_id)
        .load(conn)?;
    Ok(containers::table
        .filter(containers::id.eq_any(counted))
        .filter(containers::node_name.eq(node))
        .select(containers::id)
        .load(conn)?)
}

/// Those of a container that have ended, but for the newest `kept` of them.
pub fn ended_beyond(
    conn: &mut Conn,
    container: &ContainerId,
    kept: i64,
    limit: i64,
) -> Result<Vec<CommandId>> {
    Ok(commands::table
        .filter(commands::container_id.eq(container))
        .filter(commands::status.ne_all([CommandStatus::Queued, CommandStatus::Running]))
        .order(commands::id.desc())
        .offset(kept)
        .limit(limit)
        .select(commands::id)
        .load(conn)?)
}

pub fn delete(conn: &mut Conn, ids: &[CommandId]) -> Result<usize> {
    Ok(diesel::delete(commands::table.filter(commands::id.eq_any(ids))).execute(conn)?)
}

/// Takes a waiting command; false when another was quicker or it was cancelled.
pub fn claim(conn: &mut Conn, id: &CommandId, now: Time) -> Result<bool> {
    let taken = diesel::update(
        commands::table
            .filter(commands::id.eq(id))
            .filter(commands::status.eq(CommandStatus::Queued)),
    )
    .set((
        commands::status.eq(CommandStatus::Running),
        commands::started_at.eq(now),
    ))
    .execute(conn)?;
    Ok(taken == 1)
}

/// Ends a waiting one before it began; false when it did begin.
pub fn cancel_queued(conn: &mut Conn, id: &CommandId, now: Time) -> Result<bool> {
    let ended = diesel::update(
        commands::table
            .filter(commands::id.eq(id))
            .filter(commands::status.eq(CommandStatus::Queued)),
    )
    .set((
        commands::status.eq(CommandStatus::Cancelled),
        commands::cancel_requested.eq(true),
        commands::finished_at.eq(now),
    ))
    .execute(conn)?;
    Ok(ended == 1)
}

/// Has a running one ended; whether it was running.
pub fn request_cancel(conn: &mut Conn, id: &CommandId) -> Result<bool> {
    let asked = diesel::update(
        commands::table
            .filter(commands::id.eq(id))
            .filter(commands::status.eq(CommandStatus::Running)),
    )
    .set(commands::cancel_requested.eq(true))
    .execute(conn)?;
    Ok(asked > 0)
}

/// Records the end of a running one; false when it has one already, for the first stays.
pub fn finish(conn: &mut Conn, id: &CommandId, ending: &Ending, now: Time) -> Result<bool> {
    let ended = diesel::update(
        commands::table
            .filter(commands::id.eq(id))
            .filter(commands::status.eq(CommandStatus::Running)),
    )
    .set((
        commands::status.eq(ending.status),
        commands::exit_code.eq(ending.exit_code),
        commands::stdout.eq(&ending.stdout),
        commands::stderr.eq(&ending.stderr),
        commands::truncated.eq(ending.truncated),
        commands::error.eq(ending.error.as_deref()),
        commands::finished_at.eq(now),
    ))
    .execute(conn)?;
    Ok(ended == 1)
}

/// Ends one that waits, for its box is gone; false when it waits no more.
pub fn fail_queued(conn: &mut Conn, id: &CommandId, why: &str, now: Time) -> Result<bool> {
    let ended = diesel::update(
        commands::table
            .filter(commands::id.eq(id))
            .filter(commands::status.eq(CommandStatus::Queued)),
    )
    .set((
        commands::status.eq(CommandStatus::Failed),
        commands::error.eq(why),
        commands::finished_at.eq(now),
    ))
    .execute(conn)?;
    Ok(ended == 1)
}
