//! Queries about the links by which a new password is chosen: one a user, kept as a hash. Rules
//! stay in `domain::password_resets`.

use diesel::prelude::*;

use super::schema::password_resets;
use super::{Conn, Result};
use crate::domain::ids::UserId;
use crate::domain::time::Time;

/// A row of `password_resets`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = password_resets)]
pub struct ResetRow {
    pub user_id: UserId,
    /// SHA-256 in hex.
    pub hash: String,
    pub created_at: Time,
    pub expires_at: Time,
}

/// Makes it the user's only one.
pub fn replace(conn: &mut Conn, row: &ResetRow) -> Result<()> {
    delete_of(conn, &row.user_id)?;
    diesel::insert_into(password_resets::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, hash: &str) -> Result<Option<ResetRow>> {
    Ok(password_resets::table
        .filter(password_resets::hash.eq(hash))
        .select(ResetRow::as_select())
        .first(conn)
        .optional()?)
}

/// Uses it up; whether it was there and not past.
pub fn take(conn: &mut Conn, hash: &str, now: Time) -> Result<bool> {
    let gone = diesel::delete(
        password_resets::table
            .filter(password_resets::hash.eq(hash))
            .filter(password_resets::expires_at.gt(now)),
    )
    .execute(conn)?;
    Ok(gone > 0)
}

pub fn delete_of(conn: &mut Conn, user: &UserId) -> Result<()> {
    diesel::delete(password_resets::table.filter(password_resets::user_id.eq(user)))
        .execute(conn)?;
    Ok(())
}

pub fn delete_ended(conn: &mut Conn, now: Time) -> Result<usize> {
    Ok(
        diesel::delete(password_resets::table.filter(password_resets::expires_at.le(now)))
            .execute(conn)?,
    )
}
