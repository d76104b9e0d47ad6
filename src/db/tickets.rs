//! Queries about tickets: keys to one WebSocket each, kept as hashes, taken once. Rules stay in
//! `domain::tickets`.

use diesel::prelude::*;

use super::schema::tickets;
use super::{Conn, Result};
use crate::auth::actor::CredentialKind;
use crate::domain::ids::UserId;
use crate::domain::time::Time;

/// A row of `tickets`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = tickets)]
pub struct TicketRow {
    /// SHA-256 in hex.
    pub hash: String,
    /// What it opens, to the letter.
    pub path: String,
    pub user_id: UserId,
    /// What it was made with, and dies with.
    pub credential_kind: CredentialKind,
    pub credential_id: String,
    pub created_at: Time,
    pub expires_at: Time,
}

pub fn insert(conn: &mut Conn, row: &TicketRow) -> Result<()> {
    diesel::insert_into(tickets::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, hash: &str) -> Result<Option<TicketRow>> {
    Ok(tickets::table
        .find(hash)
        .select(TicketRow::as_select())
        .first(conn)
        .optional()?)
}

/// Uses it up; false when another was quicker.
pub fn take(conn: &mut Conn, hash: &str) -> Result<bool> {
    Ok(diesel::delete(tickets::table.find(hash)).execute(conn)? == 1)
}

pub fn delete_ended(conn: &mut Conn, now: Time) -> Result<usize> {
    Ok(diesel::delete(tickets::table.filter(tickets::expires_at.le(now))).execute(conn)?)
}
