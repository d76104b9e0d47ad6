//! Queries about one-time codes and the codes for recovery. Rules stay in `domain::second_factor`.

use diesel::prelude::*;

use super::schema::{recovery_codes, totp_factors};
use super::{Conn, Result};
use crate::domain::ids::UserId;
use crate::domain::time::Time;

/// A row of `totp_factors`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = totp_factors)]
pub struct FactorRow {
    pub user_id: UserId,
    /// Sealed.
    pub seed: String,
    /// None until the first code was right.
    pub confirmed_at: Option<Time>,
    /// The step of the last code used; codes up to it are void.
    pub last_step: i64,
    pub created_at: Time,
}

pub fn get(conn: &mut Conn, user: &UserId) -> Result<Option<FactorRow>> {
    Ok(totp_factors::table
        .find(user)
        .select(FactorRow::as_select())
        .first(conn)
        .optional()?)
}

/// Begins anew; one that is confirmed must be gone already.
pub fn insert(conn: &mut Conn, row: &FactorRow) -> Result<()> {
    diesel::insert_into(totp_factors::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn delete_unconfirmed(conn: &mut Conn, user: &UserId) -> Result<()> {
    diesel::delete(
        totp_factors::table
            .filter(totp_factors::user_id.eq(user))
            .filter(totp_factors::confirmed_at.is_null()),
    )
    .execute(conn)?;
    Ok(())
}

/// Uses up the code of `step`, and all before it; whether it could still be used.
pub fn advance(conn: &mut Conn, user: &UserId, step: i64) -> Result<bool> {
    let changed = diesel::update(
        totp_factors::table
            .filter(totp_factors::user_id.eq(user))
            .filter(totp_factors::last_step.lt(step)),
    )
    .set(totp_factors::last_step.eq(step))
    .execute(conn)?;
    Ok(changed > 0)
}

/// Whether it was not confirmed before.
pub fn confirm(conn: &mut Conn, user: &UserId, now: Time) -> Result<bool> {
    let changed = diesel::update(
        totp_factors::table
            .filter(totp_factors::user_id.eq(user))
            .filter(totp_factors::confirmed_at.is_null()),
    )
    .set(totp_factors::confirmed_at.eq(now))
    .execute(conn)?;
    Ok(changed > 0)
}

/// Factor and recovery codes; whether there was a factor.
pub fn delete(conn: &mut Conn, user: &UserId) -> Result<bool> {
    diesel::delete(recovery_codes::table.filter(recovery_codes::user_id.eq(user))).execute(conn)?;
    let gone = diesel::delete(totp_factors::table.find(user)).execute(conn)?;
    Ok(gone > 0)
}

/// Puts codes in the place of all that were there.
pub fn replace_recovery(conn: &mut Conn, user: &UserId, hashes: &[String]) -> Result<()> {
    diesel::delete(recovery_codes::table.filter(recovery_codes::user_id.eq(user))).execute(conn)?;
    for hash in hashes {
        diesel::insert_into(recovery_codes::table)
            .values((
                recovery_codes::user_id.eq(user),
                recovery_codes::hash.eq(hash),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Uses a recovery code up; whether it was there unused.
pub fn use_recovery(conn: &mut Conn, user: &UserId, hash: &str, now: Time) -> Result<bool> {
    let changed = diesel::update(
        recovery_codes::table
            .filter(recovery_codes::user_id.eq(user))
            .filter(recovery_codes::hash.eq(hash))
            .filter(recovery_codes::used_at.is_null()),
    )
    .set(recovery_codes::used_at.eq(now))
    .execute(conn)?;
    Ok(changed > 0)
}

pub fn count_recovery(conn: &mut Conn, user: &UserId) -> Result<i64> {
    Ok(recovery_codes::table
        .filter(recovery_codes::user_id.eq(user))
        .filter(recovery_codes::used_at.is_null())
        .count()
        .get_result(conn)?)
}
