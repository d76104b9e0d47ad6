//! Queries about sign-ins. One more: a function here; rules stay in `domain::sessions`.

use diesel::prelude::*;

use super::schema::{sessions, users};
use super::users::UserRow;
use super::{Conn, Result};
use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Time;

/// A row of `sessions`. The key of the cookie is there as a hash only.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions)]
pub struct SessionRow {
    pub id: SessionId,
    pub key_hash: String,
    pub user_id: UserId,
    pub csrf_token: String,
    pub auth_method: String,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: Time,
    pub last_seen_at: Time,
    pub expires_at: Time,
    /// When its user last showed who they are.
    pub proved_at: Option<Time>,
}

pub fn insert(conn: &mut Conn, row: &SessionRow) -> Result<()> {
    diesel::insert_into(sessions::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// The session of that key with its user: the one read of authentication.
pub fn get_by_key(conn: &mut Conn, key_hash: &str) -> Result<Option<(SessionRow, UserRow)>> {
    Ok(sessions::table
        .inner_join(users::table)
        .filter(sessions::key_hash.eq(key_hash))
        .select((SessionRow::as_select(), UserRow::as_select()))
        .first(conn)
        .optional()?)
}

/// The session of that id with its user.
pub fn get(conn: &mut Conn, id: &SessionId) -> Result<Option<(SessionRow, UserRow)>> {
    Ok(sessions::table
        .inner_join(users::table)
        .filter(sessions::id.eq(id))
        .select((SessionRow::as_select(), UserRow::as_select()))
        .first(conn)
        .optional()?)
}

/// Those of one user that have not ended, newest first.
pub fn list(
    conn: &mut Conn,
    user: &UserId,
    now: Time,
    idle_since: Time,
) -> Result<Vec<SessionRow>> {
    Ok(sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(
            sessions::expires_at
                .gt(now)
                .and(sessions::last_seen_at.gt(idle_since)),
        )
        .order(sessions::id.desc())
        .select(SessionRow::as_select())
        .load(conn)?)
}

/// Whether there was one.
pub fn delete(conn: &mut Conn, user: &UserId, id: &str) -> Result<bool> {
    let gone = diesel::delete(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::user_id.eq(user)),
    )
    .execute(conn)?;
    Ok(gone > 0)
}

/// Ends all of a user's, but for `keep`.
pub fn delete_all(conn: &mut Conn, user: &UserId, keep: Option<&SessionId>) -> Result<usize> {
    let all = diesel::delete(sessions::table.filter(sessions::user_id.eq(user)));
    Ok(match keep {
        Some(id) => all.filter(sessions::id.ne(id)).execute(conn)?,
        None => all.execute(conn)?,
    })
}

pub fn delete_by_key(conn: &mut Conn, key_hash: &str) -> Result<()> {
    diesel::delete(sessions::table.filter(sessions::key_hash.eq(key_hash))).execute(conn)?;
    Ok(())
}

/// Those whose end, absolute or idle, is past.
pub fn delete_ended(conn: &mut Conn, now: Time, idle_since: Time) -> Result<usize> {
    Ok(diesel::delete(
        sessions::table.filter(
            sessions::expires_at
                .le(now)
                .or(sessions::last_seen_at.le(idle_since)),
        ),
    )
    .execute(conn)?)
}

pub fn set_last_seen(conn: &mut Conn, id: &SessionId, at: Time) -> Result<()> {
    diesel::update(sessions::table.find(id))
        .set(sessions::last_seen_at.eq(at))
        .execute(conn)?;
    Ok(())
}

pub fn proved_at(conn: &mut Conn, id: &SessionId) -> Result<Option<Time>> {
    Ok(sessions::table
        .find(id)
        .select(sessions::proved_at)
        .first::<Option<Time>>(conn)
        .optional()?
        .flatten())
}

pub fn set_proved(conn: &mut Conn, id: &SessionId, at: Time) -> Result<()> {
    diesel::update(sessions::table.find(id))
        .set(sessions::proved_at.eq(at))
        .execute(conn)?;
    Ok(())
}
