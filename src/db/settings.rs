//! Small facts the installation remembers. One more: a name for it, in the module that owns it.

use diesel::prelude::*;
use diesel::sql_types::Text;

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
    // One statement, for two servers that set what neither has set before; Diesel's builder has no
    // such statement for both databases.
    diesel::sql_query(
        "INSERT INTO settings (name, value) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind::<Text, _>(name)
    .bind::<Text, _>(value)
    .execute(conn)?;
    Ok(())
}
