//! One-time links by which the owner of an account chooses a password: an administrator makes one,
//! for who forgot it and for who never had one.
//!
//! To send the link oneself (by mail), do it where [`put`]'s answer is used.

use chrono::TimeDelta;

use crate::auth::password;
use crate::auth::secrets;
use crate::db::password_resets::ResetRow;
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::domain::sessions;
use crate::domain::time::Time;
use crate::domain::users::Status;
use crate::error::{Code, Error, Result};

/// Hours that a link is good for.
pub const HOURS: i64 = 24;

/// A link as it is shown, once.
#[derive(Clone)]
pub struct ResetLink {
    /// The secret is behind the `#`: browsers do not send that, so no log has it.
    pub url: String,
    pub expires_at: Time,
}

/// Makes the account's one link, in the caller's transaction; an older one is void.
///
/// # Errors
/// When the database fails.
pub(crate) fn put(conn: &mut Conn, ctx: &Ctx, user: &UserId) -> Result<ResetLink> {
    let secret = secrets::generate(secrets::PASSWORD_RESET, &*ctx.app().entropy);
    let now = ctx.now();
    let row = ResetRow {
        user_id: user.clone(),
        hash: secrets::hash(&secret),
        created_at: now,
        expires_at: now.plus(TimeDelta::hours(HOURS)),
    };
    db::password_resets::replace(conn, &row)?;
    Ok(ResetLink {
        url: format!("{}reset#{secret}", ctx.app().config.public_url),
        expires_at: row.expires_at,
    })
}

/// Chooses the password of the account whose link has that secret; all its sessions end.
///
/// # Errors
/// A validation error for a secret that is used, past or none, and for a password that breaks the
/// rules; [`Error::RateLimited`] after many wrong secrets.
pub async fn redeem(ctx: &Ctx, secret: &str, new_password: &str) -> Result<()> {
    let limiter = &ctx.app().limiter;
    let by_address = format!("reset:{}", ctx.origin().address_text());
    if let Err(limited) = limiter.attempt_with(&by_address, 20, ctx.now()) {
        if limiter.is_news(&by_address) {
            denied(ctx, None, limited.code()).await;
        }
        return Err(limited);
    }
    let wrong = || {
        Error::field(
            "token",
            "token is not that of a link that can still be used",
        )
    };
    let secret = secret.trim();
    if !secrets::is_well_formed(secrets::PASSWORD_RESET, secret) {
        denied(ctx, None, Code::ValidationFailed).await;
        return Err(wrong());
    }
    let (hash, now) = (secrets::hash(secret), ctx.now());
    let wanted = hash.clone();
    let user = ctx
        .db()
        .read(move |conn| match db::password_resets::get(conn, &wanted)? {
            Some(row) if row.expires_at > now => Ok(db::users::get(conn, &row.user_id)?),
            _ => Ok(None),
        })
        .await?
        .filter(|user| user.status == Status::Active);
    let Some(user) = user else {
        denied(ctx, None, Code::ValidationFailed).await;
        return Err(wrong());
    };
    limiter.refund(&by_address);
    password::check_rules("new_password", new_password, &user.email)?;
    let password_hash = ctx.app().passwords.hash(new_password.to_owned()).await?;
    let inner = ctx.clone();
    let (id, email) = (user.id.clone(), user.email.clone());
    let outcome = ctx
        .db()
        .write(move |conn| {
            // The user's row first, as everyone does who locks it and what belongs to it.
            db::users::set_password_hash(conn, &user.id, &password_hash, now)?;
            if !db::password_resets::take(conn, &hash, now)? {
                return Err(wrong());
            }
            let ended = db::sessions::delete_all(conn, &user.id, None)?;
            access::ring_user(&inner, &user.id);
            let event = Event::success(Action::PasswordReset)
                .by(&user.id)
                .with("sessions_ended", ended);
            audit::record(conn, &inner, event)
        })
        .await;
    if let Err(error) = outcome {
        // Someone else was quicker with the same link.
        if error.code() == Code::ValidationFailed {
            denied(ctx, Some(&id), error.code()).await;
        }
        return Err(error);
    }
    // Whoever forgot a password has tried a few.
    sessions::forgive(ctx, &email);
    Ok(())
}

/// Audits a refusal. The limit on wrong secrets bounds how many a stranger can cause.
async fn denied(ctx: &Ctx, user: Option<&UserId>, code: Code) {
    let event = Event::new(Action::PasswordReset, Outcome::Denied).with("code", code.as_str());
    let event = match user {
        Some(user) => event.by(user),
        None => event,
    };
    audit::record_alone(ctx, event).await;
}

/// Forgets links that are past.
///
/// # Errors
/// When the database fails.
pub async fn forget_ended(ctx: &Ctx) -> Result<usize> {
    ctx.require_admin()?;
    let now = ctx.now();
    ctx.db()
        .write(move |conn| Ok(db::password_resets::delete_ended(conn, now)?))
        .await
}
