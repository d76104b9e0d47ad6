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
use crate::domain::access;
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::second_factor;
use crate::domain::time::Time;
use crate::domain::users::{Email, Status, User};
use crate::error::{Error, Result};

/// A session ends this long after its sign-in, in hours, whatever happens.
pub const ABSOLUTE_HOURS: i64 = 8;
/// A session ends this long after its last use, in hours.
pub const IDLE_HOURS: i64 = 2;
/// For this long after the password was given a session may do sensitive things, in minutes.
pub const PROVED_MINUTES: i64 = 30;

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
    let Some((user, needs_code)) = found.filter(|_| verified != Verified::No) else {
        let tried = email.as_ref().map_or("", Email::as_str);
        let event = Event::new(Action::Login, Outcome::Denied).with("email", tried);
        audit::record_alone(ctx, event).await;
        return Err(Error::WrongPassword);
    };
    limiter.succeeded(&by_account);
    limiter.refund(&by_address);
    if user.status != Status::Active {
        // Only to who knows the password.
        let event = Event::new(Action::Login, Outcome::Denied)
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
