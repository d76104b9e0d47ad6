//! Signing in and out, and the sign-ins a user has.
//!
//! To add a way of signing in, check who it is and call [`begin`] in the transaction of its audit
//! entry.

mod proof;
mod sign_in;

use chrono::TimeDelta;

use crate::app::App;
use crate::auth::actor::{AuthMethod, Caller, Credential, CsrfToken};
use crate::auth::secrets;
use crate::db::sessions::SessionRow;
use crate::db::users::UserRow;
use crate::db::{self, Conn};
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Time;
use crate::domain::users::{Status, User};
use crate::error::{Error, Result};

pub use self::proof::{PROVED_MINUTES, change_password, confirm, is_proved};
pub(crate) use self::proof::{prove, require_proved};
pub(crate) use self::sign_in::{FREE_BY_ADDRESS, disabled, forgive};
pub use self::sign_in::{Known, enter, know, known_by_ticket, login, ticket};

/// A session ends this long after its sign-in, in hours, whatever happens.
pub const ABSOLUTE_HOURS: i64 = 8;
/// A session ends this long after its last use, in hours.
pub const IDLE_HOURS: i64 = 2;

/// A sign-in, as its user sees it.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: SessionId,
    pub auth_method: AuthMethod,
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
    pub auth_method: AuthMethod,
    pub csrf_token: String,
    pub session_id: SessionId,
    pub expires_at: Time,
    pub user: User,
}

pub(crate) fn idle_since(now: Time) -> Time {
    now.plus(-TimeDelta::hours(IDLE_HOURS))
}

fn caller_of(session: &SessionRow, user: UserRow) -> Caller {
    Caller {
        user_id: user.id,
        email: user.email,
        display_name: user.display_name,
        role: user.role,
        auth_method: AuthMethod::from_text(&session.auth_method).unwrap_or(AuthMethod::Session),
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
    let alive = found.filter(|found| is_alive(found, now));
    Ok(alive.map(|(session, user)| caller_of(&session, user)))
}

fn is_alive((session, user): &(SessionRow, UserRow), now: Time) -> bool {
    let ended = session.expires_at <= now || session.last_seen_at <= idle_since(now);
    !ended && user.status == Status::Active
}

/// Who has that session; none when it has ended or its user may not come in.
pub(crate) fn find(conn: &mut Conn, id: &SessionId, now: Time) -> Result<Option<Caller>> {
    let found = db::sessions::get(conn, id)?.filter(|found| is_alive(found, now));
    Ok(found.map(|(session, user)| caller_of(&session, user)))
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
/// [`Error::Unauthorized`] for who may not come in.
pub(crate) fn begin(
    conn: &mut Conn,
    ctx: &Ctx,
    user: &UserId,
    method: AuthMethod,
) -> Result<SignedIn> {
    // First of all: from here on the account cannot be disabled before this session is there to be
    // ended with the others.
    if !db::users::note_login(conn, user, ctx.now())? {
        return Err(Error::Unauthorized);
    }
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
        auth_method: method.as_str().to_owned(),
        address: ctx.origin().address.map(|a| a.to_string()),
        user_agent: user_agent.map(|ua| ua.chars().filter(|c| !c.is_control()).take(200).collect()),
        created_at: now,
        last_seen_at: now,
        expires_at: now.plus(TimeDelta::hours(ABSOLUTE_HOURS)),
        proved_at: Some(now),
    };
    db::sessions::insert(conn, &row)?;
    let event = Event::success(Action::Login)
        .by(&user.id)
        .with("session_id", row.id.as_str())
        .with("method", method.as_str());
    audit::record(conn, ctx, event)?;
    Ok(SignedIn {
        key,
        auth_method: method,
        csrf_token: row.csrf_token,
        session_id: row.id,
        expires_at: row.expires_at,
        user: user.into(),
    })
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
            access::ring_user(&inner, &user);
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
        .map(|row| seen(ctx, row, Some(&current)))
        .collect())
}

fn seen(ctx: &Ctx, row: SessionRow, current: Option<&SessionId>) -> Session {
    let noted = ctx.app().touched.session_at(&row.id);
    Session {
        current: current == Some(&row.id),
        auth_method: AuthMethod::from_text(&row.auth_method).unwrap_or(AuthMethod::Session),
        id: row.id,
        address: row.address,
        user_agent: row.user_agent,
        created_at: row.created_at,
        last_seen_at: noted.map_or(row.last_seen_at, |noted| row.last_seen_at.max(noted)),
        expires_at: row.expires_at,
    }
}

/// A user's sign-ins that have not ended, newest first, for an administrator's eyes.
pub(crate) fn of_user(conn: &mut Conn, ctx: &Ctx, user: &UserId) -> Result<Vec<Session>> {
    let now = ctx.now();
    let current = ctx.caller().ok().and_then(Caller::session_id);
    let rows = db::sessions::list(conn, user, now, idle_since(now))?;
    Ok(rows
        .into_iter()
        .map(|row| seen(ctx, row, current))
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
            access::ring_user(&inner, &user);
            audit::record(
                conn,
                &inner,
                Event::success(Action::SessionEnd).with("subject", id),
            )
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
