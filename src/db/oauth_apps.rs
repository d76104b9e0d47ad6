//! Queries about applications and what users have allowed them. One more: a function here; rules
//! stay in `domain::oauth`.

use diesel::prelude::*;

use super::schema::{oauth_apps, oauth_authorizations, users};
use super::{Conn, Result};
use crate::domain::ids::{AppId, AuthorizationId, UserId};
use crate::domain::time::Time;

/// A row of `oauth_apps`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_apps)]
pub struct AppRow {
    pub id: AppId,
    pub client_id: String,
    pub user_id: UserId,
    pub name: String,
    pub description: String,
    /// A JSON array of strings.
    pub redirect_uris: String,
    pub public: bool,
    /// SHA-256 in hex; none for public ones.
    pub secret_hash: Option<String>,
    pub secret_prefix: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A row of `oauth_authorizations`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_authorizations)]
pub struct AuthorizationRow {
    pub id: AuthorizationId,
    pub user_id: UserId,
    pub app_id: AppId,
    /// Space-separated.
    pub scopes: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub last_used_at: Option<Time>,
}

pub fn insert(conn: &mut Conn, row: &AppRow) -> Result<()> {
    diesel::insert_into(oauth_apps::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// One of a user's own.
pub fn get(conn: &mut Conn, user: &UserId, id: &str) -> Result<Option<AppRow>> {
    Ok(oauth_apps::table
        .filter(oauth_apps::id.eq(id))
        .filter(oauth_apps::user_id.eq(user))
        .select(AppRow::as_select())
        .first(conn)
        .optional()?)
}

/// The application of that client id with its owner's name; the applications of disabled users are
/// not there.
pub fn get_by_client(conn: &mut Conn, client_id: &str) -> Result<Option<(AppRow, String)>> {
    Ok(oauth_apps::table
        .inner_join(users::table)
        .filter(oauth_apps::client_id.eq(client_id))
        .filter(users::status.eq(crate::domain::users::Status::Active))
        .select((AppRow::as_select(), users::display_name))
        .first(conn)
        .optional()?)
}

/// Holds off changes to an application, so that its secret stays until this transaction ends.
pub fn hold(conn: &mut Conn, id: &AppId) -> Result<Option<AppRow>> {
    Ok(match conn {
        // The transaction holds the whole file.
        Conn::Sqlite(c) => oauth_apps::table
            .find(id)
            .select(AppRow::as_select())
            .first(c)
            .optional()?,
        Conn::Postgres(c) => oauth_apps::table
            .find(id)
            .select(AppRow::as_select())
            .for_share()
            .first(c)
            .optional()?,
    })
}

/// As [`get`], of one that is to be changed: whoever holds it or changes it comes before or after,
/// so that nothing is written back over what another has just written.
pub fn get_to_change(conn: &mut Conn, user: &UserId, id: &str) -> Result<Option<AppRow>> {
    if let Conn::Postgres(pg) = conn {
        return Ok(oauth_apps::table
            .filter(oauth_apps::id.eq(id))
            .filter(oauth_apps::user_id.eq(user))
            .select(AppRow::as_select())
            .for_no_key_update()
            .first(pg)
            .optional()?);
    }
    get(conn, user, id)
}

/// Holds off whoever holds an application with [`hold`], until this transaction ends.
pub fn hold_alone(conn: &mut Conn, id: &str) -> Result<()> {
    if let Conn::Postgres(pg) = conn {
        let _held: Option<AppId> = oauth_apps::table
            .filter(oauth_apps::id.eq(id))
            .select(oauth_apps::id)
            .for_no_key_update()
            .first(pg)
            .optional()?;
    }
    Ok(())
}

/// A user's own, newest first, before `before`.
pub fn list(
    conn: &mut Conn,
    user: &UserId,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<AppRow>> {
    let mut query = oauth_apps::table
        .filter(oauth_apps::user_id.eq(user))
        .order(oauth_apps::id.desc())
        .limit(limit)
        .select(AppRow::as_select())
        .into_boxed();
    if let Some(before) = before {
        query = query.filter(oauth_apps::id.lt(before.to_owned()));
    }
    Ok(query.load(conn)?)
}

/// Writes what may change of an application, but for its secret.
pub fn update(conn: &mut Conn, row: &AppRow) -> Result<()> {
    diesel::update(oauth_apps::table.find(&row.id))
        .set((
            oauth_apps::name.eq(&row.name),
            oauth_apps::description.eq(&row.description),
            oauth_apps::redirect_uris.eq(&row.redirect_uris),
            oauth_apps::updated_at.eq(row.updated_at),
        ))
        .execute(conn)?;
    Ok(())
}

pub fn set_secret(conn: &mut Conn, id: &AppId, hash: &str, prefix: &str, now: Time) -> Result<()> {
    diesel::update(oauth_apps::table.find(id))
        .set((
            oauth_apps::secret_hash.eq(hash),
            oauth_apps::secret_prefix.eq(prefix),
            oauth_apps::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

/// Whether there was one; its codes, tokens and authorizations go with it, after its own row is
/// taken: whoever holds that is waited for first.
pub fn delete(conn: &mut Conn, user: &UserId, id: &str) -> Result<bool> {
    let gone = diesel::delete(
        oauth_apps::table
            .filter(oauth_apps::id.eq(id))
            .filter(oauth_apps::user_id.eq(user)),
    )
    .execute(conn)?;
    Ok(gone > 0)
}

/// What a user has allowed an application.
pub fn authorization(
    conn: &mut Conn,
    user: &UserId,
    app: &AppId,
) -> Result<Option<AuthorizationRow>> {
    Ok(oauth_authorizations::table
        .filter(oauth_authorizations::user_id.eq(user))
        .filter(oauth_authorizations::app_id.eq(app))
        .select(AuthorizationRow::as_select())
        .first(conn)
        .optional()?)
}

/// As [`authorization`], of one that is to be changed: two who add to it must not each write back
/// what they read.
pub fn authorization_to_change(
    conn: &mut Conn,
    user: &UserId,
    app: &AppId,
) -> Result<Option<AuthorizationRow>> {
    if let Conn::Postgres(pg) = conn {
        return Ok(oauth_authorizations::table
            .filter(oauth_authorizations::user_id.eq(user))
            .filter(oauth_authorizations::app_id.eq(app))
            .select(AuthorizationRow::as_select())
            .for_no_key_update()
            .first(pg)
            .optional()?);
    }
    authorization(conn, user, app)
}

pub fn insert_authorization(conn: &mut Conn, row: &AuthorizationRow) -> Result<()> {
    diesel::insert_into(oauth_authorizations::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

/// Whether it is still there.
pub fn set_authorized_scopes(
    conn: &mut Conn,
    id: &AuthorizationId,
    scopes: &str,
    now: Time,
) -> Result<bool> {
    let changed = diesel::update(oauth_authorizations::table.find(id))
        .set((
            oauth_authorizations::scopes.eq(scopes),
            oauth_authorizations::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// What a user has allowed, newest first, before `before`: with each application and its owner's
/// name.
pub fn authorizations(
    conn: &mut Conn,
    user: &UserId,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<(AuthorizationRow, AppRow, String)>> {
    let mut query = oauth_authorizations::table
        .inner_join(oauth_apps::table.inner_join(users::table))
        .filter(oauth_authorizations::user_id.eq(user))
        .order(oauth_authorizations::id.desc())
        .limit(limit)
        .select((
            AuthorizationRow::as_select(),
            AppRow::as_select(),
            users::display_name,
        ))
        .into_boxed();
    if let Some(before) = before {
        query = query.filter(oauth_authorizations::id.lt(before.to_owned()));
    }
    Ok(query.load(conn)?)
}

/// Whether there was one.
pub fn delete_authorization(conn: &mut Conn, user: &UserId, app: &str) -> Result<bool> {
    let gone = diesel::delete(
        oauth_authorizations::table
            .filter(oauth_authorizations::user_id.eq(user))
            .filter(oauth_authorizations::app_id.eq(app)),
    )
    .execute(conn)?;
    Ok(gone > 0)
}

pub fn set_last_used(conn: &mut Conn, user: &UserId, app: &AppId, at: Time) -> Result<()> {
    diesel::update(
        oauth_authorizations::table
            .filter(oauth_authorizations::user_id.eq(user))
            .filter(oauth_authorizations::app_id.eq(app)),
    )
    .set(oauth_authorizations::last_used_at.eq(at))
    .execute(conn)?;
    Ok(())
}
