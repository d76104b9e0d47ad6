//! Queries about passkeys and the ceremonies in which they are made and used. Rules stay in
//! `domain::passkeys`.

use diesel::prelude::*;

use super::schema::{passkey_ceremonies, passkeys};
use super::{Conn, Result};
use crate::domain::ids::{PasskeyId, UserId};
use crate::domain::time::Time;

/// A row of `passkeys`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = passkeys)]
pub struct PasskeyRow {
    pub id: PasskeyId,
    pub user_id: UserId,
    /// Base64url.
    pub credential_id: String,
    pub name: String,
    /// The public key and its counter, as JSON.
    pub credential: String,
    pub created_at: Time,
    pub last_used_at: Option<Time>,
}

/// A row of `passkey_ceremonies`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = passkey_ceremonies)]
pub struct CeremonyRow {
    /// SHA-256 in hex.
    pub ticket_hash: String,
    /// Whose passkey is to be made; none for signing in.
    pub user_id: Option<UserId>,
    /// JSON.
    pub state: String,
    pub expires_at: Time,
}

pub fn insert(conn: &mut Conn, row: &PasskeyRow) -> Result<()> {
    diesel::insert_into(passkeys::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// A user's, newest first.
pub fn list(conn: &mut Conn, user: &UserId) -> Result<Vec<PasskeyRow>> {
    Ok(passkeys::table
        .filter(passkeys::user_id.eq(user))
        .order(passkeys::id.desc())
        .select(PasskeyRow::as_select())
        .load(conn)?)
}

pub fn get_by_credential(conn: &mut Conn, credential_id: &str) -> Result<Option<PasskeyRow>> {
    Ok(passkeys::table
        .filter(passkeys::credential_id.eq(credential_id))
        .select(PasskeyRow::as_select())
        .first(conn)
        .optional()?)
}

/// Notes a use; whether it is still there.
pub fn set_used(conn: &mut Conn, id: &PasskeyId, credential: &str, at: Time) -> Result<bool> {
    let changed = diesel::update(passkeys::table.find(id))
        .set((
            passkeys::credential.eq(credential),
            passkeys::last_used_at.eq(at),
        ))
        .execute(conn)?;
    Ok(changed > 0)
}

/// Whether there was one.
pub fn delete(conn: &mut Conn, user: &UserId, id: &str) -> Result<bool> {
    let gone = diesel::delete(
        passkeys::table
            .filter(passkeys::id.eq(id))
            .filter(passkeys::user_id.eq(user)),
    )
    .execute(conn)?;
    Ok(gone > 0)
}

/// Notes a new ceremony, and forgets those that are past at `now`.
pub fn insert_ceremony(conn: &mut Conn, row: &CeremonyRow, now: Time) -> Result<()> {
    diesel::delete(passkey_ceremonies::table.filter(passkey_ceremonies::expires_at.le(now)))
        .execute(conn)?;
    diesel::insert_into(passkey_ceremonies::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// Uses a ceremony up: of many that ask for one, a single one gets it.
pub fn take_ceremony(
    conn: &mut Conn,
    ticket_hash: &str,
    user: Option<&UserId>,
    now: Time,
) -> Result<Option<CeremonyRow>> {
    let found: Option<CeremonyRow> = passkey_ceremonies::table
        .find(ticket_hash)
        .select(CeremonyRow::as_select())
        .first(conn)
        .optional()?;
    let Some(row) = found.filter(|row| row.user_id.as_ref() == user && row.expires_at > now) else {
        return Ok(None);
    };
    let gone = diesel::delete(passkey_ceremonies::table.find(ticket_hash)).execute(conn)?;
    Ok((gone > 0).then_some(row))
}
