//! Queries about accounts elsewhere, and sign-ins under way there. Rules stay in `domain::oidc`.

use diesel::prelude::*;

use super::schema::{oidc_attempts, oidc_identities};
use super::{Conn, Result};
use crate::domain::ids::{IdentityId, SessionId, UserId};
use crate::domain::time::Time;

/// A row of `oidc_identities`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oidc_identities)]
pub struct IdentityRow {
    pub id: IdentityId,
    pub user_id: UserId,
    pub issuer: String,
    pub subject: String,
    /// As the provider said at the first sign-in; only to recognise it by.
    pub email: Option<String>,
    pub created_at: Time,
    pub last_login_at: Option<Time>,
}

/// A row of `oidc_attempts`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oidc_attempts)]
pub struct AttemptRow {
    /// SHA-256 in hex.
    pub state_hash: String,
    /// SHA-256 in hex of the browser's cookie.
    pub browser_hash: String,
    /// A path of ours.
    pub next: String,
    /// The session that wants to link, if it is not a sign-in.
    pub link_session_id: Option<SessionId>,
    pub expires_at: Time,
}

pub fn insert(conn: &mut Conn, row: &IdentityRow) -> Result<()> {
    diesel::insert_into(oidc_identities::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, issuer: &str, subject: &str) -> Result<Option<IdentityRow>> {
    Ok(oidc_identities::table
        .filter(oidc_identities::issuer.eq(issuer))
        .filter(oidc_identities::subject.eq(subject))
        .select(IdentityRow::as_select())
        .first(conn)
        .optional()?)
}

/// A user's, newest first.
pub fn list(conn: &mut Conn, user: &UserId) -> Result<Vec<IdentityRow>> {
    Ok(oidc_identities::table
        .filter(oidc_identities::user_id.eq(user))
        .order(oidc_identities::id.desc())
        .select(IdentityRow::as_select())
        .load(conn)?)
}

/// Whether there was one.
pub fn delete(conn: &mut Conn, user: &UserId, id: &IdentityId) -> Result<bool> {
    let gone = diesel::delete(
        oidc_identities::table
            .filter(oidc_identities::id.eq(id))
            .filter(oidc_identities::user_id.eq(user)),
    )
    .execute(conn)?;
    Ok(gone > 0)
}

pub fn set_last_login(conn: &mut Conn, id: &IdentityId, at: Time) -> Result<()> {
    diesel::update(oidc_identities::table.find(id))
        .set(oidc_identities::last_login_at.eq(at))
        .execute(conn)?;
    Ok(())
}

/// Notes a new attempt, and forgets those that are past at `now`.
pub fn insert_attempt(conn: &mut Conn, row: &AttemptRow, now: Time) -> Result<()> {
    diesel::delete(oidc_attempts::table.filter(oidc_attempts::expires_at.le(now))).execute(conn)?;
    diesel::insert_into(oidc_attempts::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// Uses an attempt up: of many that ask for one, a single one gets it.
pub fn take_attempt(
    conn: &mut Conn,
    state_hash: &str,
    browser_hash: &str,
    now: Time,
) -> Result<Option<AttemptRow>> {
    let found: Option<AttemptRow> = oidc_attempts::table
        .filter(oidc_attempts::state_hash.eq(state_hash))
        .filter(oidc_attempts::browser_hash.eq(browser_hash))
        .filter(oidc_attempts::expires_at.gt(now))
        .select(AttemptRow::as_select())
        .first(conn)
        .optional()?;
    let Some(row) = found else { return Ok(None) };
    let gone = diesel::delete(oidc_attempts::table.find(state_hash)).execute(conn)?;
    Ok((gone > 0).then_some(row))
}
