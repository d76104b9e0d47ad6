//! Small facts the installation remembers. One more: a name for it, in the module that owns it.

use diesel::prelude::*;

use super::schema::settings;
use super::{Conn, Result};

pub fn get(conn: &mut Conn, name: &str) -> Result<Option<String>> {
    Ok(settings::table
        .find(name)
        .select(settings::value)
        .first(conn)
        .optional()?)
}

pub fn set(conn: &mut Conn, name: &str, value: &str) -> Result<()> {
    let changed = diesel::update(settings::table.find(name))
        .set(settings::value.eq(value))
        .execute(conn)?;
    if changed == 0 {
        diesel::insert_into(settings::table)
            .values((settings::name.eq(name), settings::value.eq(value)))
            .execute(conn)?;
    }
    Ok(())
}
