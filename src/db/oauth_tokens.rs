//! Queries about authorization codes and the tokens that come from them. What may happen once is
//! one UPDATE that says so in its WHERE. One more query: a function here; rules stay in
//! `domain::oauth`.
//!
//! Rows are always taken in one order (application, code, refresh token, family), so that no two
//! transactions wait for each other.

use diesel::prelude::*;

use super::schema::{
    oauth_access_tokens, oauth_codes, oauth_families, oauth_refresh_tokens, users,
};
use super::users::UserRow;
use super::{Conn, Result};
use crate::domain::ids::{AccessTokenId, AppId, FamilyId, RefreshTokenId, UserId};
use crate::domain::time::Time;

/// A row of `oauth_families`: all tokens that come from one code.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_families)]
pub struct FamilyRow {
    pub id: FamilyId,
    pub app_id: AppId,
    pub user_id: UserId,
    /// Space-separated.
    pub scopes: String,
    pub created_at: Time,
    /// When its last refresh token ends.
    pub expires_at: Time,
    pub revoked_at: Option<Time>,
    /// Its refresh tokens alone were revoked, with the secret they were given under.
    pub refresh_revoked_at: Option<Time>,
}

/// A row of `oauth_codes`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_codes)]
pub struct CodeRow {
    /// SHA-256 in hex.
    pub hash: String,
    pub app_id: AppId,
    pub user_id: UserId,
    pub redirect_uri: String,
    /// Space-separated.
    pub scopes: String,
    /// Of the method S256.
    pub code_challenge: Option<String>,
    /// What it gave, once it was used.
    pub family_id: Option<FamilyId>,
    pub created_at: Time,
    pub expires_at: Time,
    pub used_at: Option<Time>,
}

/// A row of `oauth_access_tokens`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_access_tokens)]
pub struct AccessTokenRow {
    pub id: AccessTokenId,
    /// SHA-256 in hex.
    pub hash: String,
    pub family_id: FamilyId,
    /// Space-separated.
    pub scopes: String,
    pub created_at: Time,
    pub expires_at: Time,
    pub revoked_at: Option<Time>,
}

/// A row of `oauth_refresh_tokens`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_refresh_tokens)]
pub struct RefreshTokenRow {
    pub id: RefreshTokenId,
    /// SHA-256 in hex.
    pub hash: String,
    pub family_id: FamilyId,
    pub created_at: Time,
    pub expires_at: Time,
    pub used_at: Option<Time>,
}

pub fn insert_code(conn: &mut Conn, row: &CodeRow) -> Result<()> {
    diesel::insert_into(oauth_codes::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn code(conn: &mut Conn, hash: &str) -> Result<Option<CodeRow>> {
    Ok(oauth_codes::table
        .find(hash)
        .select(CodeRow::as_select())
        .first(conn)
        .optional()?)
}

/// Uses a code up; false when it is used already.
pub fn use_code(conn: &mut Conn, hash: &str, now: Time) -> Result<bool> {
    let used = diesel::update(
        oauth_codes::table
            .filter(oauth_codes::hash.eq(hash))
            .filter(oauth_codes::used_at.is_null()),
    )
    .set(oauth_codes::used_at.eq(now))
    .execute(conn)?;
    Ok(used == 1)
}

/// Remembers what a code gave.
pub fn set_code_family(conn: &mut Conn, hash: &str, family: &FamilyId) -> Result<()> {
    diesel::update(oauth_codes::table.find(hash))
        .set(oauth_codes::family_id.eq(family))
        .execute(conn)?;
    Ok(())
}

/// Forgets the unused codes of an application: all of them, or one user's.
pub fn delete_codes(conn: &mut Conn, app: &str, user: Option<&UserId>) -> Result<usize> {
    let all = diesel::delete(
        oauth_codes::table
            .filter(oauth_codes::app_id.eq(app))
            .filter(oauth_codes::used_at.is_null()),
    );
    Ok(match user {
        Some(user) => all.filter(oauth_codes::user_id.eq(user)).execute(conn)?,
        None => all.execute(conn)?,
    })
}

pub fn insert_family(conn: &mut Conn, row: &FamilyRow) -> Result<()> {
    diesel::insert_into(oauth_families::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// Keeps a family until `until` and takes it for this transaction; false when it, or its refresh
/// tokens, are revoked.
pub fn prolong_family(conn: &mut Conn, id: &FamilyId, until: Time) -> Result<bool> {
    let alive = diesel::update(
        oauth_families::table
            .filter(oauth_families::id.eq(id))
            .filter(oauth_families::revoked_at.is_null())
            .filter(oauth_families::refresh_revoked_at.is_null()),
    )
    .set(oauth_families::expires_at.eq(until))
    .execute(conn)?;
    Ok(alive == 1)
}

/// Revokes all tokens of a family; false when they were already.
pub fn revoke_family(conn: &mut Conn, id: &FamilyId, now: Time) -> Result<bool> {
    let revoked = diesel::update(
        oauth_families::table
            .filter(oauth_families::id.eq(id))
            .filter(oauth_families::revoked_at.is_null()),
    )
    .set(oauth_families::revoked_at.eq(now))
    .execute(conn)?;
    Ok(revoked == 1)
}

/// Revokes all tokens that an application has for a user.
pub fn revoke_of_user(conn: &mut Conn, app: &str, user: &UserId, now: Time) -> Result<usize> {
    Ok(diesel::update(
        oauth_families::table
            .filter(oauth_families::app_id.eq(app))
            .filter(oauth_families::user_id.eq(user))
            .filter(oauth_families::revoked_at.is_null()),
    )
    .set(oauth_families::revoked_at.eq(now))
    .execute(conn)?)
}

/// Revokes the refresh tokens of an application; its access tokens end by themselves.
pub fn revoke_refresh_of_app(conn: &mut Conn, app: &AppId, now: Time) -> Result<usize> {
    Ok(diesel::update(
        oauth_families::table
            .filter(oauth_families::app_id.eq(app))
            .filter(oauth_families::revoked_at.is_null())
            .filter(oauth_families::refresh_revoked_at.is_null()),
    )
    .set(oauth_families::refresh_revoked_at.eq(now))
    .execute(conn)?)
}

pub fn insert_access(conn: &mut Conn, row: &AccessTokenRow) -> Result<()> {
    diesel::insert_into(oauth_access_tokens::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// The access token of that hash with its family and its user: the one read of authentication.
pub fn access(conn: &mut Conn, hash: &str) -> Result<Option<(AccessTokenRow, FamilyRow, UserRow)>> {
    Ok(oauth_access_tokens::table
        .inner_join(oauth_families::table.inner_join(users::table))
        .filter(oauth_access_tokens::hash.eq(hash))
        .select((
            AccessTokenRow::as_select(),
            FamilyRow::as_select(),
            UserRow::as_select(),
        ))
        .first(conn)
        .optional()?)
}

/// The access token of that id with its family and user.
pub fn get_access(
    conn: &mut Conn,
    id: &AccessTokenId,
) -> Result<Option<(AccessTokenRow, FamilyRow, UserRow)>> {
    Ok(oauth_access_tokens::table
        .inner_join(oauth_families::table.inner_join(users::table))
        .filter(oauth_access_tokens::id.eq(id))
        .select((
            AccessTokenRow::as_select(),
            FamilyRow::as_select(),
            UserRow::as_select(),
        ))
        .first(conn)
        .optional()?)
}

/// Whether there was one to revoke.
pub fn revoke_access(conn: &mut Conn, id: &AccessTokenId, now: Time) -> Result<bool> {
    let revoked = diesel::update(
        oauth_access_tokens::table
            .filter(oauth_access_tokens::id.eq(id))
            .filter(oauth_access_tokens::revoked_at.is_null()),
    )
    .set(oauth_access_tokens::revoked_at.eq(now))
    .execute(conn)?;
    Ok(revoked == 1)
}

pub fn insert_refresh(conn: &mut Conn, row: &RefreshTokenRow) -> Result<()> {
    diesel::insert_into(oauth_refresh_tokens::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// The refresh token of that hash with its family and its user.
pub fn refresh(
    conn: &mut Conn,
    hash: &str,
) -> Result<Option<(RefreshTokenRow, FamilyRow, UserRow)>> {
    Ok(oauth_refresh_tokens::table
        .inner_join(oauth_families::table.inner_join(users::table))
        .filter(oauth_refresh_tokens::hash.eq(hash))
        .select((
            RefreshTokenRow::as_select(),
            FamilyRow::as_select(),
            UserRow::as_select(),
        ))
        .first(conn)
        .optional()?)
}

/// Uses a refresh token up; false when it is used already.
pub fn use_refresh(conn: &mut Conn, id: &RefreshTokenId, now: Time) -> Result<bool> {
    let used = diesel::update(
        oauth_refresh_tokens::table
            .filter(oauth_refresh_tokens::id.eq(id))
            .filter(oauth_refresh_tokens::used_at.is_null()),
    )
    .set(oauth_refresh_tokens::used_at.eq(now))
    .execute(conn)?;
    Ok(used == 1)
}

/// Forgets what has ended: access tokens, used refresh tokens (until then their reuse is noticed),
/// codes, and families that nothing can come from any more.
pub fn delete_ended(conn: &mut Conn, now: Time, codes_before: Time) -> Result<usize> {
    let access = oauth_access_tokens::table.filter(oauth_access_tokens::expires_at.le(now));
    let refresh = oauth_refresh_tokens::table.filter(oauth_refresh_tokens::expires_at.le(now));
    // A used code is kept for long: its second use must still be noticed.
    let codes = oauth_codes::table.filter(oauth_codes::expires_at.le(codes_before));
    let families = oauth_families::table.filter(oauth_families::expires_at.le(now));
    Ok(diesel::delete(access).execute(conn)?
        + diesel::delete(refresh).execute(conn)?
        + diesel::delete(codes).execute(conn)?
        + diesel::delete(families).execute(conn)?)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::db::{Db, Url, oauth_apps, users};
    use crate::domain::users::{Role, Status};

    #[test]
    fn what_has_ended_is_forgotten_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hzel.db").display().to_string();
        let db = Db::open(&Url::Sqlite(path), 1).unwrap();
        db.migrate().unwrap();
        let then = Time::from(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let after = |days| then.plus(TimeDelta::days(days));
        let left = db.write_blocking(|conn| {
            let user_id = UserId::new(then.utc());
            users::insert(
                conn,
                &UserRow {
                    id: user_id.clone(),
                    email: "a@example.org".into(),
                    display_name: "a".into(),
                    role: Role::User,
                    status: Status::Active,
                    password_hash: None,
                    created_at: then,
                    updated_at: then,
                    last_login_at: None,
                },
            )?;
            let app_id = AppId::new(then.utc());
            oauth_apps::insert(
                conn,
                &oauth_apps::AppRow {
                    id: app_id.clone(),
                    client_id: "x".into(),
                    user_id: user_id.clone(),
                    name: "x".into(),
                    description: String::new(),
                    redirect_uris: "[]".into(),
                    public: true,
                    secret_hash: None,
                    secret_prefix: None,
                    created_at: then,
                    updated_at: then,
                },
            )?;
            for (name, days) in [("old", 30), ("new", 60)] {
                let family = FamilyRow {
                    id: FamilyId::new(then.utc()),
                    app_id: app_id.clone(),
                    user_id: user_id.clone(),
                    scopes: String::new(),
                    created_at: then,
                    expires_at: after(days),
                    revoked_at: None,
                    refresh_revoked_at: None,
                };
                insert_family(conn, &family)?;
                let refresh = RefreshTokenRow {
                    id: RefreshTokenId::new(then.utc()),
                    hash: name.into(),
                    family_id: family.id.clone(),
                    created_at: then,
                    expires_at: after(days),
                    used_at: Some(then),
                };
                insert_refresh(conn, &refresh)?;
                let access = AccessTokenRow {
                    id: AccessTokenId::new(then.utc()),
                    hash: name.into(),
                    family_id: family.id,
                    scopes: String::new(),
                    created_at: then,
                    expires_at: after(days),
                    revoked_at: None,
                };
                insert_access(conn, &access)?;
            }
            delete_ended(conn, after(45), after(15))?;
            let known = |name: &str, conn: &mut Conn| -> Result<(bool, bool)> {
                Ok((
                    access(conn, name)?.is_some(),
                    refresh(conn, name)?.is_some(),
                ))
            };
            Ok((known("old", conn)?, known("new", conn)?))
        });
        assert_eq!(left.unwrap(), ((false, false), (true, true)));
    }
}
