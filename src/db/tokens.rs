//! Queries about personal access tokens. One more: a function here; rules stay in
//! `domain::tokens`.

use diesel::prelude::*;

use super::schema::{tokens, users};
use super::users::UserRow;
use super::{Conn, Result};
use crate::domain::ids::{TokenId, UserId};
use crate::domain::time::Time;

/// A row of `tokens`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = tokens)]
pub struct TokenRow {
    pub id: TokenId,
    pub user_id: UserId,
    pub name: String,
    pub prefix: String,
    /// SHA-256 in hex.
    pub hash: String,
    /// Space-separated; none is the whole account.
    pub scopes: Option<String>,
    pub created_at: Time,
    pub expires_at: Option<Time>,
    pub last_used_at: Option<Time>,
    pub revoked_at: Option<Time>,
}

pub fn insert(conn: &mut Conn, row: &TokenRow) -> Result<()> {
    diesel::insert_into(tokens::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// The token of that hash with its user: the one read of authentication.
pub fn get_by_hash(conn: &mut Conn, hash: &str) -> Result<Option<(TokenRow, UserRow)>> {
    Ok(tokens::table
        .inner_join(users::table)
        .filter(tokens::hash.eq(hash))
        .select((TokenRow::as_select(), UserRow::as_select()))
        .first(conn)
        .optional()?)
}

/// The token of that id with its user.
pub fn get(conn: &mut Conn, id: &TokenId) -> Result<Option<(TokenRow, UserRow)>> {
    Ok(tokens::table
        .inner_join(users::table)
        .filter(tokens::id.eq(id))
        .select((TokenRow::as_select(), UserRow::as_select()))
        .first(conn)
        .optional()?)
}

/// A user's own that are not revoked, newest first, before `before`.
pub fn list(
    conn: &mut Conn,
    user: &UserId,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<TokenRow>> {
    let mut query = tokens::table
        .filter(tokens::user_id.eq(user))
        .filter(tokens::revoked_at.is_null())
        .order(tokens::id.desc())
        .limit(limit)
        .select(TokenRow::as_select())
        .into_boxed();
    if let Some(before) = before {
        query = query.filter(tokens::id.lt(before.to_owned()));
    }
    Ok(query.load(conn)?)
}

/// Whether there was one to revoke.
pub fn revoke(conn: &mut Conn, user: &UserId, id: &str, now: Time) -> Result<bool> {
    let changed = diesel::update(
        tokens::table
            .filter(tokens::id.eq(id))
            .filter(tokens::user_id.eq(user))
            .filter(tokens::revoked_at.is_null()),
    )
    .set(tokens::revoked_at.eq(now))
    .execute(conn)?;
    Ok(changed > 0)
}

pub fn set_last_used(conn: &mut Conn, id: &TokenId, at: Time) -> Result<()> {
    diesel::update(tokens::table.find(id))
        .set(tokens::last_used_at.eq(at))
        .execute(conn)?;
    Ok(())
}
