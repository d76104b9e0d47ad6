//! Signing in with address and password, and the code where the account wants one.
//!
//! To ask for one thing more before a sign-in, ask for it in [`enter`].

use chrono::TimeDelta;

use super::{SignedIn, begin};
use crate::auth::actor::AuthMethod;
use crate::auth::password::{self, Verified};
use crate::auth::secrets;
use crate::db;
use crate::db::users::UserRow;
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::domain::second_factor;
use crate::domain::time::Time;
use crate::domain::users::{Email, Status};
use crate::error::{Error, Result};

/// Failures of one address that cost nothing: several people may be behind it.
pub(crate) const FREE_BY_ADDRESS: u32 = 20;
/// Minutes between the password and the code.
const TICKET_MINUTES: i64 = 5;

/// Whose address and password were right.
pub struct Known {
    user: UserRow,
    /// Set when the password's hash is to be made anew.
    fresh_hash: Option<String>,
    /// Whether a one-time code is wanted too.
    pub needs_code: bool,
}

/// Checks address and password.
///
/// # Errors
/// [`Error::WrongPassword`] for a wrong one of either, in equal time; [`Error::Forbidden`] for a
/// disabled account; [`Error::RateLimited`] after many failures.
pub async fn know(ctx: &Ctx, email: &str, password: &str) -> Result<Known> {
    if email.is_empty() || password.is_empty() {
        let field = if email.is_empty() {
            "email"
        } else {
            "password"
        };
        return Err(Error::field(field, format!("{field} must not be empty")));
    }
    // What is no address has no account; it takes the same way for the sake of equal time.
    let email = Email::parse(email).ok();
    let known = email.as_ref().map_or("", Email::as_str).to_owned();
    let limiter = &ctx.app().limiter;
    let by_account = account_key(&known);
    let by_address = format!("address:{}", ctx.origin().address_text());
    let admitted = limiter
        .attempt_with(&by_address, FREE_BY_ADDRESS, ctx.now())
        .map_err(|refused| (refused, &by_address))
        .and_then(|()| {
            limiter.attempt(&by_account, ctx.now()).map_err(|refused| {
                limiter.refund(&by_address);
                (refused, &by_account)
            })
        });
    if let Err((refused, key)) = admitted {
        if limiter.is_news(key) {
            let event = Event::new(Action::Login, Outcome::Denied)
                .with("email", known.as_str())
                .with("code", refused.code().as_str());
            audit::record_alone(ctx, event).await;
        }
        return Err(refused);
    }

    let found = ctx
        .db()
        .read(move |conn| match db::users::get_by_email(conn, &known)? {
            Some(user) => {
                let needs_code = second_factor::is_on(conn, &user.id)?;
                Ok(Some((user, needs_code)))
            }
            None => Ok(None),
        })
        .await?;
    let stored = found.as_ref().and_then(|(u, _)| u.password_hash.clone());
    let verified = if password.len() > password::MAX_BYTES {
        ctx.app().passwords.verify(String::new(), None).await?
    } else {
        ctx.app()
            .passwords
            .verify(password.to_owned(), stored)
            .await?
    };
    let owner = found.as_ref().map(|(user, _)| user.id.clone());
    let Some((user, needs_code)) = found.filter(|_| verified != Verified::No) else {
        let tried = email.as_ref().map_or("", Email::as_str);
        let mut event = Event::new(Action::Login, Outcome::Denied).with("email", tried);
        // Among what concerns the account, for its owner to see that someone tries.
        if let Some(owner) = &owner {
            event = event.by(owner);
        }
        audit::record_alone(ctx, event).await;
        return Err(Error::WrongPassword);
    };
    limiter.succeeded(&by_account);
    limiter.refund(&by_address);
    if user.status != Status::Active {
        // Only to who knows the password.
        let event = Event::new(Action::Login, Outcome::Denied)
            .by(&user.id)
            .with("email", user.email.as_str())
            .with("reason", "disabled");
        audit::record_alone(ctx, event).await;
        return Err(disabled());
    }
    let fresh_hash = match verified {
        Verified::YesButOld => Some(ctx.app().passwords.hash(password.to_owned()).await?),
        Verified::Yes | Verified::No => None,
    };
    Ok(Known {
        user,
        fresh_hash,
        needs_code,
    })
}

/// To who has proved to be the one whose account it is.
pub(crate) fn disabled() -> Error {
    Error::Forbidden("This account is disabled".into())
}

fn account_key(email: &str) -> String {
    format!("account:{email}")
}

/// Forgives an account's failures, after its password was chosen anew.
pub(crate) fn forgive(ctx: &Ctx, email: &str) {
    ctx.app().limiter.succeeded(&account_key(email));
}

/// Signs in with address and password, and the one-time code where the account wants one.
///
/// # Errors
/// As [`know`] and [`enter`]; [`Error::CodeNeeded`].
pub async fn login(ctx: &Ctx, email: &str, password: &str, code: Option<&str>) -> Result<SignedIn> {
    let known = know(ctx, email, password).await?;
    match code.filter(|code| !code.is_empty()) {
        None if known.needs_code => Err(Error::CodeNeeded),
        code => enter(ctx, known, code).await,
    }
}

/// Signs in who is known.
///
/// # Errors
/// [`Error::CodeNeeded`] and [`Error::WrongCode`] where the account wants a one-time code,
/// [`Error::Forbidden`] when the account was disabled, [`Error::WrongPassword`] when its password
/// changed meanwhile,
/// [`Error::RateLimited`] after many wrong codes.
pub async fn enter(ctx: &Ctx, known: Known, code: Option<&str>) -> Result<SignedIn> {
    let Known {
        user, fresh_hash, ..
    } = known;
    let key = format!("code:{}", user.id);
    let code = code.map(str::to_owned);
    if code.is_some() {
        ctx.app().limiter.attempt(&key, ctx.now())?;
    }
    let (inner, id) = (ctx.clone(), user.id.clone());
    let outcome = ctx
        .db()
        .write(move |conn| {
            // The account may have been disabled since it was read. Its row is locked before the
            // code is used up, which may write an audit entry; what is refused is undone.
            if !db::users::note_login(conn, &user.id, inner.now())? {
                return Err(disabled());
            }
            let now = db::users::get(conn, &user.id)?.ok_or(Error::WrongPassword)?;
            if now.password_hash != user.password_hash {
                return Err(Error::WrongPassword);
            }
            // Asked here and not before, for it may have been turned on meanwhile.
            if second_factor::is_on(conn, &user.id)? {
                let code = code.as_deref().ok_or(Error::CodeNeeded)?;
                second_factor::use_code(conn, &inner, &user.id, &user.email, code)?;
            }
            if let Some(hash) = &fresh_hash {
                db::users::set_password_hash(conn, &user.id, hash, inner.now())?;
            }
            begin(conn, &inner, &user.id, AuthMethod::Session)
        })
        .await;
    match &outcome {
        Ok(_) => ctx.app().limiter.succeeded(&key),
        Err(Error::WrongCode) => {
            let event = Event::new(Action::Login, Outcome::Denied)
                .by(&id)
                .with("reason", "code");
            audit::record_alone(ctx, event).await;
        }
        Err(_) => ctx.app().limiter.refund(&key),
    }
    outcome
}

/// What the browser of someone known holds between the password and the code, so that neither is
/// asked twice.
#[derive(serde::Serialize, serde::Deserialize)]
struct Ticket {
    user_id: UserId,
    /// Of the password's hash: another password makes it void.
    mark: String,
    until: Time,
}

const TICKET: &str = "sign-in ticket";

fn mark_of(user: &UserRow) -> String {
    secrets::hash(user.password_hash.as_deref().unwrap_or_default())
}

/// A ticket for who is known, sealed.
///
/// # Errors
/// Internal only.
pub fn ticket(ctx: &Ctx, known: &Known) -> Result<String> {
    let ticket = Ticket {
        user_id: known.user.id.clone(),
        mark: mark_of(&known.user),
        until: ctx.now().plus(TimeDelta::minutes(TICKET_MINUTES)),
    };
    let text = serde_json::to_vec(&ticket).map_err(Error::internal)?;
    let app = ctx.app();
    app.trust.sealer.seal(TICKET, &text, &*app.entropy)
}

/// Who holds that ticket.
///
/// # Errors
/// [`Error::WrongPassword`] for one that is past, void or none.
pub async fn known_by_ticket(ctx: &Ctx, ticket: &str) -> Result<Known> {
    let ticket = ctx
        .app()
        .trust
        .sealer
        .open(TICKET, ticket)
        .and_then(|bytes| serde_json::from_slice::<Ticket>(&bytes).ok())
        .filter(|ticket| ticket.until > ctx.now())
        .ok_or(Error::WrongPassword)?;
    let id = ticket.user_id;
    let user = ctx
        .db()
        .read(move |conn| Ok(db::users::get(conn, &id)?))
        .await?
        .filter(|user| mark_of(user) == ticket.mark)
        .ok_or(Error::WrongPassword)?;
    Ok(Known {
        user,
        fresh_hash: None,
        needs_code: true,
    })
}
