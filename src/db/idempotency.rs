//! Answers kept for repeated requests. One more query: a function here; what counts as the same
//! request is said in `domain::idempotency`.

use diesel::prelude::*;

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
    /// The id of what the first request made.
    pub answer: String,
    pub created_at: Time,
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

pub fn delete_older(conn: &mut Conn, than: Time) -> Result<usize> {
    Ok(diesel::delete(keys::table.filter(keys::created_at.lt(than))).execute(conn)?)
}
