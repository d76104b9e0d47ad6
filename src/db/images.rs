//! Queries about images. One more: a function here; rules stay in `domain::images`.

use diesel::prelude::*;

use super::schema::{containers, images};
use super::{Conn, Result};
use crate::domain::ids::ImageId;
use crate::domain::images::ImageStatus;
use crate::domain::time::Time;

/// A row of `images`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = images)]
pub struct ImageRow {
    pub id: ImageId,
    pub name: String,
    pub source: String,
    pub status: ImageStatus,
    pub step: String,
    pub percent: i32,
    pub error: Option<String>,
    pub description: String,
    pub size_bytes: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

pub fn insert(conn: &mut Conn, row: &ImageRow) -> Result<()> {
    diesel::insert_into(images::table)
        .values(row)
        .execute(conn)?;
    Ok(())
}

pub fn get(conn: &mut Conn, name: &str) -> Result<Option<ImageRow>> {
    Ok(images::table
        .filter(images::name.eq(name))
        .select(ImageRow::as_select())
        .first(conn)
        .optional()?)
}

/// Has a name's row stay until the transaction ends, for who makes something of it. SQLite's
/// writers wait for each other anyway.
pub fn share(conn: &mut Conn, name: &str) -> Result<()> {
    if let Conn::Postgres(pg) = conn {
        let _held: Option<ImageId> = images::table
            .filter(images::name.eq(name))
            .select(images::id)
            .for_key_share()
            .first(pg)
            .optional()?;
    }
    Ok(())
}

/// Holds a name's row until the transaction ends: against [`share`] and against others that hold.
pub fn hold(conn: &mut Conn, name: &str) -> Result<()> {
    if let Conn::Postgres(pg) = conn {
        let _held: Option<ImageId> = images::table
            .filter(images::name.eq(name))
            .select(images::id)
            .for_update()
            .first(pg)
            .optional()?;
    }
    Ok(())
}

/// Newest first.
pub fn list(conn: &mut Conn) -> Result<Vec<ImageRow>> {
    Ok(images::table
        .order(images::id.desc())
        .select(ImageRow::as_select())
        .load(conn)?)
}

pub fn delete(conn: &mut Conn, name: &str) -> Result<bool> {
    Ok(diesel::delete(images::table.filter(images::name.eq(name))).execute(conn)? > 0)
}

/// How many containers were made from it.
pub fn count_users(conn: &mut Conn, name: &str) -> Result<i64> {
    Ok(containers::table
        .filter(containers::image.eq(name))
        .count()
        .get_result(conn)?)
}

pub fn set_preparing(
    conn: &mut Conn,
    name: &str,
    source: &str,
    step: &str,
    now: Time,
) -> Result<()> {
    diesel::update(images::table.filter(images::name.eq(name)))
        .set((
            images::source.eq(source),
            images::status.eq(ImageStatus::Preparing),
            images::step.eq(step),
            images::percent.eq(0),
            images::error.eq(None::<String>),
            images::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

pub fn set_progress(
    conn: &mut Conn,
    name: &str,
    step: &str,
    percent: i32,
    now: Time,
) -> Result<()> {
    diesel::update(
        images::table
            .filter(images::name.eq(name))
            .filter(images::status.eq(ImageStatus::Preparing)),
    )
    .set((
        images::step.eq(step),
        images::percent.eq(percent),
        images::updated_at.eq(now),
    ))
    .execute(conn)?;
    Ok(())
}

pub fn set_ready(
    conn: &mut Conn,
    name: &str,
    description: &str,
    size_bytes: i64,
    now: Time,
) -> Result<()> {
    diesel::update(images::table.filter(images::name.eq(name)))
        .set((
            images::status.eq(ImageStatus::Ready),
            images::step.eq(""),
            images::percent.eq(100),
            images::error.eq(None::<String>),
            images::description.eq(description),
            images::size_bytes.eq(size_bytes),
            images::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

pub fn set_failed(conn: &mut Conn, name: &str, error: &str, now: Time) -> Result<()> {
    diesel::update(images::table.filter(images::name.eq(name)))
        .set((
            images::status.eq(ImageStatus::Failed),
            images::error.eq(error),
            images::updated_at.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}
