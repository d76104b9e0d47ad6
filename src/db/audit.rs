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

/// Newest first, before the entry numbered `before`; of one user, or of all.
pub fn list(
    conn: &mut Conn,
    user: Option<&UserId>,
    container: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>> {
    let mut query = audit_logs::table
        .order(audit_logs::seq.desc())
        .limit(limit)
        .select(AuditRow::as_select())
        .into_boxed();
    if let Some(user) = user {
        query = query.filter(audit_logs::user_id.eq(user.clone()));
    }
    if let Some(container) = container {
        query = query.filter(audit_logs::container_id.eq(container.to_owned()));
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
