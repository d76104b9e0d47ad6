//! The same request twice makes one thing: a repeated `Idempotency-Key` within a day answers what
//! the first request made.
//!
//! To honour it in another creating function: [`replay`] first, and [`keep`] last but for the audit
//! entry, in its transaction.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::db::idempotency::KeyRow;
use crate::db::{self, Conn};
use crate::domain::ctx::Ctx;
use crate::error::{Error, Result};

/// How long a key is remembered, in hours.
pub const HOURS: i64 = 24;
/// Longest key, in characters.
pub const MAX_LEN: usize = 255;

/// What the first request with this key made, if there was one. One that is being handled is waited
/// for: call it before anything else is locked.
///
/// # Errors
/// [`Error::Conflict`] when it came with another body.
pub fn replay<T: DeserializeOwned>(conn: &mut Conn, ctx: &Ctx) -> Result<Option<T>> {
    let (Some(key), Some(user)) = (&ctx.origin().idempotency, ctx.user_id()) else {
        return Ok(None);
    };
    db::idempotency::lock(conn, user, &key.route, &key.key)?;
    let Some(kept) = db::idempotency::get(conn, user, &key.route, &key.key)? else {
        return Ok(None);
    };
    // Only this one: others' are no business of this request, and are swept now and then.
    if kept.created_at < ctx.now().plus(-chrono::TimeDelta::hours(HOURS)) {
        db::idempotency::delete(conn, &kept)?;
        return Ok(None);
    }
    if kept.body_hash != key.body_hash {
        return Err(Error::Conflict(
            "This Idempotency-Key was used with another request body".into(),
        ));
    }
    serde_json::from_str(&kept.answer)
        .map(Some)
        .map_err(Error::internal)
}

/// Remembers what this request made.
///
/// # Errors
/// When the database fails.
pub fn keep<T: Serialize>(conn: &mut Conn, ctx: &Ctx, answer: &T) -> Result<()> {
    let (Some(key), Some(user)) = (&ctx.origin().idempotency, ctx.user_id()) else {
        return Ok(());
    };
    let answer = serde_json::to_string(answer).map_err(Error::internal)?;
    let row = KeyRow {
        user_id: user.clone(),
        key: key.key.clone(),
        route: key.route.clone(),
        body_hash: key.body_hash.clone(),
        answer,
        created_at: ctx.now(),
    };
    match db::idempotency::insert(conn, &row) {
        Ok(()) => Ok(()),
        // The lock of `replay` keeps two from coming here; should they, the other was first.
        Err(e) if e.is_unique_violation() => Err(Error::Conflict(
            "A request with this Idempotency-Key is being handled".into(),
        )),
        Err(e) => Err(e.into()),
    }
}
