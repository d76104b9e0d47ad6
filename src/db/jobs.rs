//! Queries about background work. One more: a function here; what the kinds of jobs do is said in
//! `jobs`.

use diesel::prelude::*;

use super::schema::jobs;
use super::{Conn, Result};
use crate::domain::ids::{ContainerId, JobId, UserId};
use crate::domain::jobs::{JobKind, JobStatus};
use crate::domain::time::Time;

/// A row of `jobs`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = jobs)]
pub struct JobRow {
    pub id: JobId,
    pub kind: JobKind,
    pub container_id: Option<ContainerId>,
    /// What it is about beside the container: an image's name, or empty.
    pub subject: String,
    /// Who asked; none when hzel itself did.
    pub user_id: Option<UserId>,
    pub request_id: String,
    pub node_name: String,
    pub status: JobStatus,
    pub error: Option<String>,
    /// How often it was begun; more than one when the server ended in the middle.
    pub attempts: i32,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
}

pub fn insert(conn: &mut Conn, row: &JobRow) -> Result<()> {
    diesel::insert_into(jobs::table).values(row).execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, id: &JobId) -> Result<Option<JobRow>> {
    Ok(jobs::table
        .find(id)
        .select(JobRow::as_select())
        .first(conn)
        .optional()?)
}

/// Those that wait on that node, oldest first.
pub fn queued(conn: &mut Conn, node: &str, limit: i64) -> Result<Vec<JobRow>> {
    Ok(jobs::table
        .filter(
            jobs::node_name
                .eq(node)
                .and(jobs::status.eq(JobStatus::Queued)),
        )
        .order(jobs::id.asc())
        .limit(limit)
        .select(JobRow::as_select())
        .load(conn)?)
}

/// Takes a waiting job; false when another was quicker.
pub fn claim(conn: &mut Conn, id: &JobId, now: Time) -> Result<bool> {
    let taken = diesel::update(
        jobs::table
            .filter(jobs::id.eq(id))
            .filter(jobs::status.eq(JobStatus::Queued)),
    )
    .set((
        jobs::status.eq(JobStatus::Running),
        jobs::attempts.eq(jobs::attempts + 1),
        jobs::started_at.eq(now),
    ))
    .execute(conn)?;
    Ok(taken == 1)
}

pub fn finish(conn: &mut Conn, id: &JobId, error: Option<&str>, now: Time) -> Result<()> {
    let status = if error.is_some() {
        JobStatus::Failed
    } else {
        JobStatus::Done
    };
    diesel::update(jobs::table.find(id))
        .set((
            jobs::status.eq(status),
            jobs::error.eq(error),
            jobs::finished_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

/// Forgets how often it was begun: waiting for something else is no attempt.
pub fn forget_attempts(conn: &mut Conn, id: &JobId) -> Result<()> {
    diesel::update(jobs::table.find(id))
        .set(jobs::attempts.eq(0))
        .execute(conn)?;
    Ok(())
}

/// Puts back what a server that is gone had begun; answers how many those were.
pub fn requeue_running(conn: &mut Conn, node: &str) -> Result<usize> {
    Ok(diesel::update(
        jobs::table
            .filter(jobs::node_name.eq(node))
            .filter(jobs::status.eq(JobStatus::Running)),
    )
    .set(jobs::status.eq(JobStatus::Queued))
    .execute(conn)?)
}

/// Puts one back that was begun and did not come to a recorded end.
pub fn requeue(conn: &mut Conn, id: &JobId) -> Result<()> {
    diesel::update(
        jobs::table
            .filter(jobs::id.eq(id))
            .filter(jobs::status.eq(JobStatus::Running)),
    )
    .set(jobs::status.eq(JobStatus::Queued))
    .execute(conn)?;
    Ok(())
}

/// Those of a node that were begun before that time and have not ended.
pub fn running_since(conn: &mut Conn, node: &str, before: Time) -> Result<Vec<JobId>> {
    Ok(jobs::table
        .filter(jobs::node_name.eq(node))
        .filter(jobs::status.eq(JobStatus::Running))
        .filter(jobs::started_at.lt(before))
        .select(jobs::id)
        .load(conn)?)
}

/// Jobs of a container that wait or run.
pub fn open_for(conn: &mut Conn, container: &ContainerId) -> Result<Vec<JobRow>> {
    Ok(jobs::table
        .filter(jobs::container_id.eq(container))
        .filter(jobs::status.eq_any([JobStatus::Queued, JobStatus::Running]))
        .order(jobs::id.asc())
        .select(JobRow::as_select())
        .load(conn)?)
}

/// Whether work about that subject waits or runs.
pub fn is_open(conn: &mut Conn, kind: JobKind, subject: &str) -> Result<bool> {
    Ok(jobs::table
        .filter(jobs::kind.eq(kind).and(jobs::subject.eq(subject)))
        .filter(jobs::status.eq_any([JobStatus::Queued, JobStatus::Running]))
        .select(jobs::id)
        .first::<JobId>(conn)
        .optional()?
        .is_some())
}

pub fn delete_finished(conn: &mut Conn, before: Time) -> Result<usize> {
    Ok(diesel::delete(jobs::table.filter(jobs::finished_at.lt(before))).execute(conn)?)
}
