//! Queries about who else may use a container. Rules stay in `domain::permissions`.

use diesel::prelude::*;

use super::schema::container_members;
use super::{Conn, Result};
use crate::domain::ids::{ContainerId, UserId};

/// What the user was given on the container, as bits.
pub fn get(conn: &mut Conn, container: &ContainerId, user: &UserId) -> Result<Option<i32>> {
    Ok(container_members::table
        .find((container, user))
        .select(container_members::permissions)
        .first(conn)
        .optional()?)
}

/// The containers that were shared with the user, each with its bits.
pub fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<(ContainerId, i32)>> {
    Ok(container_members::table
        .filter(container_members::user_id.eq(user))
        .select((
            container_members::container_id,
            container_members::permissions,
        ))
        .load(conn)?)
}

/// With whom the container was shared, each with the bits.
pub fn of_container(conn: &mut Conn, container: &ContainerId) -> Result<Vec<(UserId, i32)>> {
    Ok(container_members::table
        .filter(container_members::container_id.eq(container))
        .select((container_members::user_id, container_members::permissions))
        .load(conn)?)
}
