//! The password, asked for again before sensitive things, and its change.
//!
//! To guard one thing more, call [`require_proved`] in its transaction, or ask for the password
//! itself by [`prove`] and hold to it by [`Proof::require`].

use chrono::TimeDelta;

use super::own_session;
use crate::auth::actor::Caller;
use crate::auth::password::{self, Verified};
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::error::{Error, Result};

/// For this long after the password was given a session may do sensitive things, in minutes.
pub const PROVED_MINUTES: i64 = 30;

/// Asks for one's own password again; `field` is where it stands.
///
/// # Errors
/// A validation error for a wrong one, [`Error::RateLimited`] after many.
pub(crate) async fn prove(ctx: &Ctx, field: &'static str, password: &str) -> Result<Proof> {
    let (user_id, _) = own_session(ctx)?;
    let key = format!("password:{user_id}");
    ctx.app().limiter.attempt(&key, ctx.now())?;
    let user = ctx
        .db()
        .read(move |conn| Ok(db::users::get(conn, &user_id)?))
        .await?;
    let known = user.and_then(|u| u.password_hash);
    let stored = known.clone();
    let verified = if password.len() > password::MAX_BYTES {
        Verified::No
    } else {
        ctx.app()
            .passwords
            .verify(password.to_owned(), stored)
            .await?
    };
    let Some(hash) = known.filter(|_| verified != Verified::No) else {
        return Err(Error::field(field, format!("{field} is not right")));
    };
    ctx.app().limiter.succeeded(&key);
    Ok(Proof { field, hash })
}

/// That someone knew the password, and which one.
pub(crate) struct Proof {
    field: &'static str,
    hash: String,
}

impl Proof {
    /// Lets only through while that password counts: it may have been changed since, because it
    /// was known to someone else. Holds the user's row until the transaction ends.
    ///
    /// # Errors
    /// A validation error.
    pub(crate) fn require(&self, conn: &mut Conn, user: &UserId) -> Result<()> {
        db::users::hold(conn, user)?;
        let now = db::users::get(conn, user)?.and_then(|user| user.password_hash);
        if now.as_ref() == Some(&self.hash) {
            return Ok(());
        }
        let field = self.field;
        Err(Error::field(field, format!("{field} is not right")))
    }
}

/// Lets only through whose password was given lately: who found a browser open must not be able to
/// stay. A token is no browser.
///
/// # Errors
/// [`Error::Unproved`].
pub(crate) fn require_proved(conn: &mut Conn, ctx: &Ctx) -> Result<()> {
    let Some(session) = ctx.caller().ok().and_then(Caller::session_id) else {
        return Ok(());
    };
    let oldest = ctx.now().plus(-TimeDelta::minutes(PROVED_MINUTES));
    match db::sessions::proved_at(conn, session)? {
        Some(at) if at > oldest => Ok(()),
        _ => Err(Error::Unproved),
    }
}

/// Whether the password was given lately enough for sensitive things.
///
/// # Errors
/// When the database fails.
pub async fn is_proved(ctx: &Ctx) -> Result<bool> {
    let inner = ctx.clone();
    let proved = ctx.db().read(move |conn| require_proved(conn, &inner));
    match proved.await {
        Ok(()) => Ok(true),
        Err(Error::Unproved) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the password for the sensitive things that follow.
///
/// # Errors
/// A validation error for a wrong one, [`Error::RateLimited`] after many.
pub async fn confirm(ctx: &Ctx, password: &str) -> Result<()> {
    prove(ctx, "password", password).await?;
    let (_, session) = own_session(ctx)?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            db::sessions::set_proved(conn, &session, inner.now())?;
            audit::record(conn, &inner, Event::success(Action::Confirm))
        })
        .await
}

/// Changes one's own password and ends one's other sessions.
///
/// # Errors
/// A validation error for a wrong current one and for a new one that breaks the rules.
pub async fn change_password(ctx: &Ctx, current: &str, new: &str) -> Result<()> {
    let (user_id, session) = own_session(ctx)?;
    password::check_rules("new_password", new, &ctx.caller()?.email)?;
    let proof = prove(ctx, "current_password", current).await?;
    let hash = ctx.app().passwords.hash(new.to_owned()).await?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            proof.require(conn, &user_id)?;
            db::users::set_password_hash(conn, &user_id, &hash, inner.now())?;
            db::password_resets::delete_of(conn, &user_id)?;
            let ended = db::sessions::delete_all(conn, &user_id, Some(&session))?;
            access::ring_user(&inner, &user_id);
            let event = Event::success(Action::PasswordChange).with("sessions_ended", ended);
            audit::record(conn, &inner, event)
        })
        .await
}
