//! Signing in and out, and the sign-ins a user has.
//!
//! To add a way of signing in, check who it is and call [`begin`] in the transaction of its audit
//! entry.

use chrono::TimeDelta;

use crate::app::App;
use crate::auth::actor::{AuthMethod, Caller, Credential, CsrfToken};
use crate::auth::password::{self, Verified};
use crate::auth::secrets;
use crate::db::sessions::SessionRow;
use crate::db::users::UserRow;
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Time;
use crate::domain::users::{Email, Status, User};
use crate::error::{Error, Result};

/// A session ends this long after its sign-in, in hours, whatever happens.
pub const ABSOLUTE_HOURS: i64 = 8;
/// A session ends this long after its last use, in hours.
pub const IDLE_HOURS: i64 = 2;

/// A sign-in, as its user sees it.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: SessionId,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: Time,
    pub last_seen_at: Time,
    pub expires_at: Time,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// What a sign-in gives: the key goes to the cookie and nowhere else.
#[derive(Clone)]
pub struct SignedIn {
    pub key: String,
    pub csrf_token: String,
    pub session_id: SessionId,
    pub expires_at: Time,
    pub user: User,
}

fn idle_since(now: Time) -> Time {
    now.plus(-TimeDelta::hours(IDLE_HOURS))
}

fn caller_of(session: &SessionRow, user: UserRow) -> Caller {
    Caller {
        user_id: user.id,
        email: user.email,
        display_name: user.display_name,
        role: user.role,
        auth_method: AuthMethod::Session,
        credential: Credential::Session {
            id: session.id.clone(),
            csrf_token: CsrfToken(session.csrf_token.clone()),
        },
        scopes: None,
    }
}

/// Who has the cookie of that key; none when it has ended or its user may not come in.
///
/// # Errors
/// When the database fails.
pub async fn find_by_key(app: &App, key: &str) -> Result<Option<Caller>> {
    let hash = secrets::hash(key);
    let now = Time::from(app.clock.now());
    let found = app
        .db
        .read(move |conn| Ok(db::sessions::get_by_key(conn, &hash)?))
        .await?;
    let Some((session, user)) = found else {
        return Ok(None);
    };
    let ended = session.expires_at <= now || session.last_seen_at <= idle_since(now);
    if ended || user.status != Status::Active {
        return Ok(None);
    }
    app.touched.session(&session.id, now);
    Ok(Some(caller_of(&session, user)))
}

/// The form in which a caller passes through the cookie's middleware within one request.
///
/// # Errors
/// Internal only.
pub fn caller_to_text(caller: &Caller) -> Result<String> {
    serde_json::to_string(caller).map_err(Error::internal)
}

/// Removes a session by its key; not an error when there is none.
///
/// # Errors
/// When the database fails.
pub async fn delete_by_key(app: &App, key: &str) -> Result<()> {
    let hash = secrets::hash(key);
    app.db
        .write(move |conn| Ok(db::sessions::delete_by_key(conn, &hash)?))
        .await
}

/// Makes the row of a sign-in, with its audit entry, in the caller's transaction.
///
/// # Errors
/// When the database fails.
pub(crate) fn begin(conn: &mut Conn, ctx: &Ctx, user: &UserId) -> Result<SignedIn> {
    let user = db::users::get(conn, user)?.ok_or(Error::Unauthorized)?;
    let entropy = &*ctx.app().entropy;
    let now = ctx.now();
    let key = secrets::random_base62(64, entropy);
    let user_agent = ctx.origin().user_agent.as_deref();
    let row = SessionRow {
        id: SessionId::new(now.utc()),
        key_hash: secrets::hash(&key),
        user_id: user.id.clone(),
        csrf_token: secrets::random_base62(43, entropy),
        auth_method: AuthMethod::Session.as_str().to_owned(),
        address: ctx.origin().address.map(|a| a.to_string()),
        user_agent: user_agent.map(|ua| ua.chars().filter(|c| !c.is_control()).take(200).collect()),
        created_at: now,
        last_seen_at: now,
        expires_at: now.plus(TimeDelta::hours(ABSOLUTE_HOURS)),
    };
    db::sessions::insert(conn, &row)?;
    let event = Event::success(Action::Login)
        .by(&user.id)
        .with("session_id", row.id.as_str());
    audit::record(conn, ctx, event)?;
    Ok(SignedIn {
        key,
        csrf_token: row.csrf_token,
        session_id: row.id,
        expires_at: row.expires_at,
        user: user.into(),
    })
}

/// Signs in with address and password.
///
/// # Errors
/// [`Error::WrongPassword`] for a wrong one of either and for a disabled account, in equal time;
/// [`Error::RateLimited`] after many failures.
pub async fn login(ctx: &Ctx, email: &str, password: &str) -> Result<SignedIn> {
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
    let by_account = format!("account:{known}");
    let by_address = format!(
        "address:{}",
        ctx.origin()
            .address
            .map(|a| a.to_string())
            .unwrap_or_default()
    );
    limiter.check(&by_account, ctx.now())?;
    limiter.check(&by_address, ctx.now())?;

    let user = ctx
        .db()
        .read(move |conn| Ok(db::users::get_by_email(conn, &known)?))
        .await?;
    let stored = user.as_ref().and_then(|u| u.password_hash.clone());
    let verified = if password.len() > password::MAX_BYTES {
        ctx.app().passwords.verify(String::new(), None).await?
    } else {
        ctx.app()
            .passwords
            .verify(password.to_owned(), stored)
            .await?
    };
    let Some(user) = user.filter(|u| verified != Verified::No && u.status == Status::Active) else {
        limiter.failed(&by_account, ctx.now());
        limiter.failed(&by_address, ctx.now());
        let tried = email.as_ref().map_or("", Email::as_str);
        let event = Event::new(Action::Login, Outcome::Denied).with("email", tried);
        audit::record_alone(ctx, event).await;
        return Err(Error::WrongPassword);
    };
    let fresh_hash = match verified {
        Verified::YesButOld => Some(ctx.app().passwords.hash(password.to_owned()).await?),
        Verified::Yes | Verified::No => None,
    };
    let inner = ctx.clone();
    let signed_in = ctx
        .db()
        .write(move |conn| {
            // The account may have been disabled since it was read.
            let now = db::users::get(conn, &user.id)?.ok_or(Error::WrongPassword)?;
            if now.status != Status::Active || now.password_hash != user.password_hash {
                return Err(Error::WrongPassword);
            }
            if let Some(hash) = &fresh_hash {
                db::users::set_password_hash(conn, &user.id, hash, inner.now())?;
            }
            begin(conn, &inner, &user.id)
        })
        .await?;
    limiter.succeeded(&by_account);
    limiter.succeeded(&by_address);
    Ok(signed_in)
}

fn own_session(ctx: &Ctx) -> Result<(UserId, SessionId)> {
    let caller = ctx.caller()?;
    match &caller.credential {
        Credential::Session { id, .. } => Ok((caller.user_id.clone(), id.clone())),
        Credential::PersonalToken { .. } | Credential::OauthToken { .. } => Err(Error::Forbidden(
            "This endpoint needs a signed-in session".into(),
        )),
    }
}

/// Ends the session that asks.
///
/// # Errors
/// [`Error::Forbidden`] for a token.
pub async fn logout(ctx: &Ctx) -> Result<()> {
    let (user, session) = own_session(ctx)?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            db::sessions::delete(conn, &user, session.as_str())?;
            audit::record(conn, &inner, Event::success(Action::Logout))
        })
        .await
}

/// One's own sign-ins that have not ended, newest first.
///
/// # Errors
/// [`Error::Forbidden`] for a token.
pub async fn list(ctx: &Ctx) -> Result<Vec<Session>> {
    let (user, current) = own_session(ctx)?;
    let now = ctx.now();
    let rows = ctx
        .db()
        .read(move |conn| Ok(db::sessions::list(conn, &user, now, idle_since(now))?))
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Session {
            current: row.id == current,
            id: row.id,
            address: row.address,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
        })
        .collect())
}

/// The session that asks.
///
/// # Errors
/// [`Error::Forbidden`] for a token.
pub async fn current(ctx: &Ctx) -> Result<Session> {
    list(ctx)
        .await?
        .into_iter()
        .find(|s| s.current)
        .ok_or(Error::Unauthorized)
}

/// Ends one of one's own.
///
/// # Errors
/// [`Error::NotFound`], also for another's.
pub async fn end(ctx: &Ctx, id: &str) -> Result<()> {
    let (user, _) = own_session(ctx)?;
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            if id.contains('\0') || !db::sessions::delete(conn, &user, &id)? {
                return Err(Error::NotFound(format!("Session {id} was not found")));
            }
            audit::record(
                conn,
                &inner,
                Event::success(Action::SessionEnd).with("subject", id),
            )
        })
        .await
}

/// Changes one's own password and ends one's other sessions.
///
/// # Errors
/// A validation error for a wrong current one and for a new one that breaks the rules.
pub async fn change_password(ctx: &Ctx, current: &str, new: &str) -> Result<()> {
    let (user_id, session) = own_session(ctx)?;
    let caller = ctx.caller()?;
    password::check_rules("new_password", new, &caller.email)?;
    let key = format!("password:{user_id}");
    ctx.app().limiter.check(&key, ctx.now())?;
    let id = user_id.clone();
    let user = ctx
        .db()
        .read(move |conn| Ok(db::users::get(conn, &id)?))
        .await?;
    let stored = user.and_then(|u| u.password_hash);
    if current.len() > password::MAX_BYTES
        || ctx
            .app()
            .passwords
            .verify(current.to_owned(), stored)
            .await?
            == Verified::No
    {
        ctx.app().limiter.failed(&key, ctx.now());
        let event = Event::new(Action::PasswordChange, Outcome::Denied);
        audit::record_alone(ctx, event).await;
        return Err(Error::field(
            "current_password",
            "current_password is not right",
        ));
    }
    ctx.app().limiter.succeeded(&key);
    let hash = ctx.app().passwords.hash(new.to_owned()).await?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            db::users::set_password_hash(conn, &user_id, &hash, inner.now())?;
            let ended = db::sessions::delete_all(conn, &user_id, Some(&session))?;
            let event = Event::success(Action::PasswordChange).with("sessions_ended", ended);
            audit::record(conn, &inner, event)
        })
        .await
}

/// Forgets sessions that have ended.
///
/// # Errors
/// When the database fails.
pub async fn forget_ended(ctx: &Ctx) -> Result<usize> {
    ctx.require_admin()?;
    let now = ctx.now();
    ctx.db()
        .write(move |conn| Ok(db::sessions::delete_ended(conn, now, idle_since(now))?))
        .await
}
