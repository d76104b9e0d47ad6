//! The first minutes: while there is no user, whoever has the code from the server's log makes the
//! first administrator.
//!
//! To ask for more at setup, extend `NewUser`.

use crate::auth::actor::AuthMethod;
use crate::auth::secrets;
use crate::db;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::sessions::{self, SignedIn};
use crate::domain::users::{self, NewUser, Role};
use crate::error::{Error, Result};

/// Whether there is no user yet.
///
/// # Errors
/// When the database fails.
pub async fn is_needed(ctx: &Ctx) -> Result<bool> {
    ctx.db().read(|conn| Ok(!db::users::any(conn)?)).await
}

/// Makes the first administrator and signs them in.
///
/// # Errors
/// [`Error::Conflict`] when there is a user already, validation errors for a wrong code and for
/// the account's fields, [`Error::RateLimited`] after many wrong codes.
pub async fn complete(ctx: &Ctx, code: &str, new: NewUser) -> Result<SignedIn> {
    if !is_needed(ctx).await? {
        return Err(Error::Conflict("hzel is set up already".into()));
    }
    let limiter = &ctx.app().limiter;
    limiter.check("setup", ctx.now())?;
    let typed: String = code
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect::<String>()
        .to_ascii_uppercase();
    let wanted = ctx.app().setup_code.replace('-', "");
    if !secrets::same(&typed, &wanted) {
        limiter.failed("setup", ctx.now());
        return Err(Error::field(
            "code",
            "code must be the one from the server's log",
        ));
    }
    let user = NewUser {
        role: Role::Admin,
        ..new
    }
    .check()?;
    let hash = ctx.app().passwords.hash(user.password.clone()).await?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            // Asked again where it counts: two may have had the code.
            db::users::lock(conn)?;
            if db::users::any(conn)? {
                return Err(Error::Conflict("hzel is set up already".into()));
            }
            let made = users::insert(conn, &inner, &user, hash)?;
            audit::record(conn, &inner, Event::success(Action::Setup).by(&made.id))?;
            sessions::begin(conn, &inner, &made.id, AuthMethod::Session)
        })
        .await
}
