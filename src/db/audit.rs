//! Queries about the audit log: only ever an insert and reads. One more read: a function here.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::schema::audit_logs;
use super::{Conn, Result};
use crate::domain::audit::Outcome;
use crate::domain::ids::{AuditId, UserId};
use crate::domain::time::Time;

/// A row of `audit_logs`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_logs)]
pub struct AuditRow {
    pub id: AuditId,
    /// 1 for the first, without gaps.
    pub seq: i64,
    pub user_id: Option<UserId>,
    pub container_id: Option<String>,
    pub action: String,
    pub outcome: Outcome,
    /// A JSON object.
    pub metadata: String,
    pub created_at: Time,
    /// SHA-256 in hex over the hash before and this entry's own fields.
    pub hash: String,
}

/// The last entry's number and hash, held for this transaction so that the chain has no forks. The
/// last lock of its transaction; see `domain::audit::record`.
pub fn lock_tail(conn: &mut Conn) -> Result<Option<(i64, String)>> {
    if let Conn::Postgres(pg) = conn {
        pg.batch_execute("SELECT pg_advisory_xact_lock(4812931)")?;
    }
    Ok(audit_logs::table
        .order(audit_logs::seq.desc())
        .select((audit_logs::seq, audit_logs::hash))
        .first(conn)
        .optional()?)
}

pub fn insert(conn: &mut Conn, row: &AuditRow) -> Result<()> {
    diesel::insert_into(audit_logs::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// Which entries; what is none does not narrow.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub user: Option<UserId>,
    pub container: Option<String>,
    /// One of these.
    pub actions: Option<Vec<&'static str>>,
    pub outcome: Option<Outcome>,
    /// Included.
    pub from: Option<Time>,
    /// Not included.
    pub to: Option<Time>,
}

/// Newest first, before the entry numbered `before`.
pub fn list(
    conn: &mut Conn,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>> {
    let mut query = audit_logs::table
        .order(audit_logs::seq.desc())
        .limit(limit)
        .select(AuditRow::as_select())
        .into_boxed();
    if let Some(user) = filter.user.clone() {
        query = query.filter(audit_logs::user_id.eq(user));
    }
    if let Some(container) = filter.container.clone() {
        query = query.filter(audit_logs::container_id.eq(container));
    }
    if let Some(actions) = filter.actions.clone() {
        query = query.filter(audit_logs::action.eq_any(actions));
    }
    if let Some(outcome) = filter.outcome {
        query = query.filter(audit_logs::outcome.eq(outcome));
    }
    if let Some(from) = filter.from {
        query = query.filter(audit_logs::created_at.ge(from));
    }
    if let Some(to) = filter.to {
        query = query.filter(audit_logs::created_at.lt(to));
    }
    if let Some(before) = before {
        query = query.filter(audit_logs::seq.lt(before));
    }
    Ok(query.load(conn)?)
}

/// Oldest first, after the entry numbered `after`.
pub fn list_after(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<AuditRow>> {
    Ok(audit_logs::table
        .filter(audit_logs::seq.gt(after))
        .order(audit_logs::seq.asc())
        .limit(limit)
        .select(AuditRow::as_select())
        .load(conn)?)
}
