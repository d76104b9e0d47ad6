//! Queries about users. One more: a function here; rules stay in `domain::users`.

use diesel::prelude::*;

use super::schema::users;
use super::{Conn, Result};
use crate::domain::ids::UserId;
use crate::domain::time::Time;
use crate::domain::users::{Role, Status};

/// A row of `users`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = users)]
pub struct UserRow {
    pub id: UserId,
    /// Lower case.
    pub email: String,
    pub display_name: String,
    pub role: Role,
    pub status: Status,
    /// PHC string; none for accounts without a password.
    pub password_hash: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
    pub last_login_at: Option<Time>,
}

pub fn insert(conn: &mut Conn, row: &UserRow) -> Result<()> {
    diesel::insert_into(users::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, id: &UserId) -> Result<Option<UserRow>> {
    Ok(users::table
        .find(id)
        .select(UserRow::as_select())
        .first(conn)
        .optional()?)
}

pub fn get_by_email(conn: &mut Conn, email: &str) -> Result<Option<UserRow>> {
    Ok(users::table
        .filter(users::email.eq(email))
        .select(UserRow::as_select())
        .first(conn)
        .optional()?)
}

/// Oldest first.
pub fn list(conn: &mut Conn) -> Result<Vec<UserRow>> {
    Ok(users::table
        .order(users::id.asc())
        .select(UserRow::as_select())
        .load(conn)?)
}

/// What a list of users may be narrowed to.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// A part of the address or of the name, in lower case.
    pub text: Option<String>,
    pub role: Option<Role>,
    pub status: Option<Status>,
}

/// Newest first, before `before`.
pub fn search(
    conn: &mut Conn,
    filter: &UserFilter,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<UserRow>> {
    let mut query = users::table
        .order(users::id.desc())
        .limit(limit)
        .select(UserRow::as_select())
        .into_boxed();
    if let Some(text) = &filter.text {
        let pattern = format!("%{}%", literal(text));
        query = query.filter(
            users::email
                .like(pattern.clone())
                .escape('!')
                .or(lower(users::display_name).like(pattern).escape('!')),
        );
    }
    if let Some(role) = filter.role {
        query = query.filter(users::role.eq(role));
    }
    if let Some(status) = filter.status {
        query = query.filter(users::status.eq(status));
    }
    if let Some(before) = before {
        query = query.filter(users::id.lt(before.to_owned()));
    }
    Ok(query.load(conn)?)
}

diesel::define_sql_function! {
    /// Lower case; on SQLite of ASCII only.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// Without the signs that `LIKE` reads; `!` escapes, for the backslash differs by backend.
fn literal(text: &str) -> String {
    text.replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_")
}

pub fn any(conn: &mut Conn) -> Result<bool> {
    Ok(users::table
        .select(users::id)
        .first::<UserId>(conn)
        .optional()?
        .is_some())
}

/// Admins that can sign in.
pub fn count_active_admins(conn: &mut Conn) -> Result<i64> {
    Ok(users::table
        .filter(
            users::role
                .eq(Role::Admin)
                .and(users::status.eq(Status::Active)),
        )
        .count()
        .get_result(conn)?)
}

pub fn set_status(conn: &mut Conn, id: &UserId, status: Status, now: Time) -> Result<()> {
    diesel::update(users::table.find(id))
        .set((users::status.eq(status), users::updated_at.eq(now)))
        .execute(conn)?;
    Ok(())
}

pub fn set_role(conn: &mut Conn, id: &UserId, role: Role, now: Time) -> Result<()> {
    diesel::update(users::table.find(id))
        .set((users::role.eq(role), users::updated_at.eq(now)))
        .execute(conn)?;
    Ok(())
}

pub fn set_password_hash(conn: &mut Conn, id: &UserId, hash: &str, now: Time) -> Result<()> {
    diesel::update(users::table.find(id))
        .set((users::password_hash.eq(hash), users::updated_at.eq(now)))
        .execute(conn)?;
    Ok(())
}

pub fn set_display_name(conn: &mut Conn, id: &UserId, name: &str, now: Time) -> Result<()> {
    diesel::update(users::table.find(id))
        .set((users::display_name.eq(name), users::updated_at.eq(now)))
        .execute(conn)?;
    Ok(())
}

/// Notes a sign-in of someone who may come in; whether they may.
pub fn note_login(conn: &mut Conn, id: &UserId, now: Time) -> Result<bool> {
    let changed = diesel::update(
        users::table
            .filter(users::id.eq(id))
            .filter(users::status.eq(Status::Active)),
    )
    .set(users::last_login_at.eq(now))
    .execute(conn)?;
    Ok(changed > 0)
}

/// Holds one user's row until the transaction ends, for decisions by what the user has. SQLite's
/// writers wait for each other anyway.
pub fn hold(conn: &mut Conn, id: &UserId) -> Result<()> {
    use diesel::connection::SimpleConnection;
    if let Conn::Postgres(pg) = conn {
        // First the right to write at all, which [`lock`] takes before it takes rows.
        pg.batch_execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")?;
        let _held: Option<UserId> = users::table
            .find(id)
            .select(users::id)
            .for_no_key_update()
            .first(pg)
            .optional()?;
    }
    Ok(())
}

/// Holds off other writers of users until this transaction ends.
pub fn lock(conn: &mut Conn) -> Result<()> {
    use diesel::connection::SimpleConnection;
    if let Conn::Postgres(pg) = conn {
        pg.batch_execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")?;
    }
    Ok(())
}
