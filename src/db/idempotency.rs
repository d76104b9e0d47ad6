//! Answers kept for repeated requests. One more query: a function here; what counts as the same
//! request is said in `domain::idempotency`.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::schema::idempotency_keys as keys;
use super::{Conn, Result};
use crate::domain::ids::UserId;
use crate::domain::time::Time;

/// A row of `idempotency_keys`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = keys)]
pub struct KeyRow {
    pub user_id: UserId,
    pub key: String,
    pub route: String,
    /// SHA-256 of the body, in hex.
    pub body_hash: String,
    /// What the first request was answered, as JSON.
    pub answer: String,
    pub created_at: Time,
}

/// Holds off other requests with that key until this transaction ends. SQLite has one writer at a
/// time anyway.
pub fn lock(conn: &mut Conn, user: &UserId, route: &str, key: &str) -> Result<()> {
    if let Conn::Postgres(pg) = conn {
        // None of the three has a line break.
        diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind::<Text, _>(format!("{user}\n{route}\n{key}"))
            .execute(pg)?;
    }
    Ok(())
}

pub fn insert(conn: &mut Conn, row: &KeyRow) -> Result<()> {
    diesel::insert_into(keys::table).values(row).execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, user: &UserId, route: &str, key: &str) -> Result<Option<KeyRow>> {
    Ok(keys::table
        .find((user, key, route))
        .select(KeyRow::as_select())
        .first(conn)
        .optional()?)
}

pub fn delete(conn: &mut Conn, row: &KeyRow) -> Result<()> {
    diesel::delete(keys::table.find((&row.user_id, &row.key, &row.route))).execute(conn)?;
    Ok(())
}

pub fn delete_older(conn: &mut Conn, than: Time) -> Result<usize> {
    Ok(diesel::delete(keys::table.filter(keys::created_at.lt(than))).execute(conn)?)
}
