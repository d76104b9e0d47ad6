//! Signing in with an OpenID Connect provider, and which accounts there belong to one here.
//!
//! An account here is found by issuer and subject and by nothing else. To let something more of the
//! provider's answer decide, add it to `auth::oidc::Identity` and use it in [`enter`].

use chrono::TimeDelta;
use url::Url;

use crate::app::App;
use crate::auth::actor::AuthMethod;
use crate::auth::oidc::{Attempt, Identity, Provider, Refusal};
use crate::auth::secrets;
use crate::db::oidc::{AttemptRow, IdentityRow};
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::domain::ids::{IdentityId, UserId};
use crate::domain::sessions::{self, SignedIn};
use crate::domain::time::Time;
use crate::domain::users::{self, DisplayName, Email, Role, Status};
use crate::error::{Error, Result};

/// Minutes that someone may take at the provider.
pub const MINUTES: i64 = 10;
/// Length of the random texts that bind an attempt to its browser.
const LENGTH: usize = 43;

/// An account elsewhere, as its user sees it.
#[derive(Debug, Clone)]
pub struct Linked {
    pub id: IdentityId,
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    pub created_at: Time,
    pub last_login_at: Option<Time>,
}

/// A browser about to be sent to the provider.
pub struct Begun {
    pub url: Url,
    /// For the cookie that only this browser has.
    pub browser: String,
}

/// What the provider sent the browser back with.
#[derive(Debug, Clone, Default)]
pub struct Return {
    pub state: Option<String>,
    pub code: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
}

/// How it ended, and the path to go on to.
pub enum Finished {
    SignedIn(Box<SignedIn>, String),
    Linked(String),
}

fn provider(app: &App) -> Result<&Provider> {
    app.trust
        .oidc
        .as_ref()
        .ok_or(Error::NotImplemented("OIDC is not enabled"))
}

/// Whether people may sign in with a provider.
#[must_use]
pub fn is_enabled(app: &App) -> bool {
    app.trust.oidc.is_some()
}

/// What pages call the provider, if there is one.
#[must_use]
pub fn name(app: &App) -> Option<&str> {
    app.trust.oidc.as_ref().map(Provider::name)
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Unreachable(cause) => {
            tracing::warn!(%cause, "the OpenID Connect provider cannot be used");
            Error::ProviderUnavailable
        }
        Refusal::Untrusted(cause) => {
            tracing::warn!(%cause, "an answer of the OpenID Connect provider was refused");
            Error::field(
                "code",
                "code must be one that the sign-in provider gave for this sign-in",
            )
        }
    }
}

/// Begins a sign-in, or with `link` the linking of an account there to the signed-in one here.
/// `next` is the path of ours to go on to; `browser` is this browser's cookie, if it has one.
///
/// # Errors
/// [`Error::NotImplemented`], [`Error::ProviderUnavailable`], [`Error::RateLimited`];
/// [`Error::Forbidden`] to link without a session.
pub async fn begin(ctx: &Ctx, browser: Option<&str>, next: &str, link: bool) -> Result<Begun> {
    let provider = provider(ctx.app())?;
    let link_session_id = if link {
        let session = ctx.caller()?.session_id().cloned();
        Some(session.ok_or_else(|| Error::Forbidden("This needs a signed-in session".into()))?)
    } else {
        None
    };
    if link {
        let inner = ctx.clone();
        ctx.db()
            .read(move |conn| sessions::require_proved(conn, &inner))
            .await?;
    }
    let key = format!("oidc:{}", ctx.origin().address_text());
    ctx.app().limiter.spend(&key, ctx.now())?;
    let entropy = &*ctx.app().entropy;
    let is_ours =
        |text: &&str| text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let attempt = Attempt {
        state: secrets::random_base62(LENGTH, entropy),
        // One cookie for several tabs; each attempt has a state of its own.
        browser: browser
            .filter(is_ours)
            .map_or_else(|| secrets::random_base62(LENGTH, entropy), str::to_owned),
    };
    let now = ctx.now();
    let url = provider
        // Who is signed in already comes to show that it is still them.
        .authorize_url(&attempt, !link && ctx.user_id().is_some(), now)
        .await
        .map_err(refused)?;
    let row = AttemptRow {
        state_hash: secrets::hash(&attempt.state),
        browser_hash: secrets::hash(&attempt.browser),
        next: next.to_owned(),
        link_session_id,
        expires_at: now.plus(TimeDelta::minutes(MINUTES)),
    };
    ctx.db()
        .write(move |conn| Ok(db::oidc::insert_attempt(conn, &row, now)?))
        .await?;
    Ok(Begun {
        url,
        browser: attempt.browser,
    })
}

/// Ends what [`begin`] began.
///
/// # Errors
/// [`Error::NotImplemented`]; validation errors for a state that is missing, unknown, past, used or
/// another browser's, and for an answer that is not to be believed; [`Error::Forbidden`] for a
/// disabled account; [`Error::Conflict`] when the account there, or its address, is someone else's
/// here; [`Error::ProviderUnavailable`].
pub async fn finish(ctx: &Ctx, browser: Option<&str>, returned: Return) -> Result<Finished> {
    let provider = provider(ctx.app())?;
    let wrong_state = || {
        Error::field(
            "state",
            "state must be that of a sign-in that this browser began in the last ten minutes",
        )
    };
    let (Some(state), Some(browser)) = (returned.state, browser) else {
        return Err(wrong_state());
    };
    let attempt = Attempt {
        state,
        browser: browser.to_owned(),
    };
    let (state_hash, browser_hash) = (
        secrets::hash(&attempt.state),
        secrets::hash(&attempt.browser),
    );
    let now = ctx.now();
    // Used up before anything else, whatever comes of it.
    let row = ctx
        .db()
        .write(move |conn| {
            Ok(db::oidc::take_attempt(
                conn,
                &state_hash,
                &browser_hash,
                now,
            )?)
        })
        .await?
        .ok_or_else(wrong_state)?;
    if row.link_session_id.is_some()
        && row.link_session_id.as_ref() != ctx.caller().ok().and_then(|c| c.session_id())
    {
        return Err(wrong_state());
    }
    let code = match (returned.code, returned.error) {
        (Some(code), None) => code,
        (_, error) => {
            // Anyone can write this parameter; only the usual word is repeated.
            let denied = error.as_deref() == Some("access_denied");
            return Err(Error::field(
                "error",
                if denied {
                    "The sign-in was cancelled at the provider"
                } else {
                    "The provider did not sign you in"
                },
            ));
        }
    };
    let identity = provider
        .identify(&attempt, &code, returned.iss.as_deref(), now)
        .await
        .map_err(refused)?;
    let inner = ctx.clone();
    if row.link_session_id.is_some() {
        let user = ctx.caller()?.user_id.clone();
        ctx.db()
            .write(move |conn| link(conn, &inner, &user, &identity))
            .await?;
        return Ok(Finished::Linked(row.next));
    }
    let outcome = ctx
        .db()
        .write(move |conn| enter(conn, &inner, &identity))
        .await;
    match outcome {
        Ok(signed_in) => Ok(Finished::SignedIn(Box::new(signed_in), row.next)),
        Err(error) => {
            let event = Event::new(Action::Login, Outcome::Denied)
                .with("method", AuthMethod::Oidc.as_str())
                .with("code", error.code().as_str());
            audit::record_alone(ctx, event).await;
            Err(error)
        }
    }
}

/// Signs in whom the provider named, making the account at the first time.
fn enter(conn: &mut Conn, ctx: &Ctx, identity: &Identity) -> Result<SignedIn> {
    if identity.is_admin.is_some() {
        db::users::lock(conn)?;
    }
    let now = ctx.now();
    let mut known = db::oidc::get(conn, &identity.issuer, &identity.subject)?;
    if known.is_none() {
        // Of two first sign-ins at once the second waits here and finds the first one's account.
        db::users::lock(conn)?;
        known = db::oidc::get(conn, &identity.issuer, &identity.subject)?;
    }
    let user_id = match known {
        Some(known) => {
            // Users first, as whoever unlinks takes them. Who may not come in is refused below.
            db::users::note_login(conn, &known.user_id, now)?;
            db::oidc::set_last_login(conn, &known.id, now)?;
            known.user_id
        }
        None => welcome(conn, ctx, identity)?,
    };
    let mut row = db::users::get(conn, &user_id)?.ok_or(Error::Unauthorized)?;
    if row.status == Status::Disabled {
        return Err(Error::Forbidden("This account is disabled".into()));
    }
    let role = match identity.is_admin {
        Some(true) => Role::Admin,
        Some(false) => Role::User,
        None => row.role,
    };
    if role != row.role {
        match users::put_role(conn, ctx, &mut row, role) {
            // Better an administrator whom the provider does not know than none.
            Err(Error::Conflict(_)) => {
                tracing::warn!(user_id = %row.id, "the last administrator stays one");
            }
            other => other?,
        }
    }
    sessions::begin(conn, ctx, &user_id, AuthMethod::Oidc)
}

/// Makes the account of someone who comes for the first time.
fn welcome(conn: &mut Conn, ctx: &Ctx, identity: &Identity) -> Result<UserId> {
    let verified = identity
        .email
        .as_deref()
        .filter(|_| identity.email_verified)
        .and_then(|text| Email::parse(text).ok());
    let email = match verified {
        Some(email) => {
            if db::users::get_by_email(conn, email.as_str())?.is_some() {
                return Err(Error::Conflict(
                    "Your e-mail address has an account here already. Sign in to it as before, \
                     then connect the provider on your profile page"
                        .into(),
                ));
            }
            email
        }
        // Whoever can write any address at the provider must not take someone's here.
        None => {
            let digest = secrets::hash(&format!("{}\n{}", identity.issuer, identity.subject));
            let short: String = digest.chars().take(20).collect();
            Email::parse(&format!("{short}@oidc.invalid"))?
        }
    };
    let name = identity
        .name
        .as_deref()
        .and_then(|name| DisplayName::parse(name).ok());
    let name = match name {
        Some(name) => name,
        None => {
            let local = email.as_str().split('@').next().unwrap_or_default();
            DisplayName::parse(local)?
        }
    };
    let made = users::insert_with(conn, ctx, &email, &name, Role::User, None)?;
    add(conn, ctx, &made.id, identity, Some(ctx.now()))?;
    let event = Event::success(Action::UserCreate)
        .by(&made.id)
        .with("subject", made.id.as_str())
        .with("email", made.email.as_str())
        .with("issuer", identity.issuer.as_str());
    audit::record(conn, ctx, event)?;
    Ok(made.id)
}

fn add(
    conn: &mut Conn,
    ctx: &Ctx,
    user: &UserId,
    identity: &Identity,
    last_login_at: Option<Time>,
) -> Result<IdentityId> {
    let now = ctx.now();
    let row = IdentityRow {
        id: IdentityId::new(now.utc()),
        user_id: user.clone(),
        issuer: identity.issuer.clone(),
        subject: identity.subject.clone(),
        email: identity.email.clone(),
        created_at: now,
        last_login_at,
    };
    match db::oidc::insert(conn, &row) {
        Ok(()) => Ok(row.id),
        Err(e) if e.is_unique_violation() => Err(elsewhere()),
        Err(e) => Err(e.into()),
    }
}

fn elsewhere() -> Error {
    Error::Conflict("This account of the provider belongs to another user here".into())
}

fn link(conn: &mut Conn, ctx: &Ctx, user: &UserId, identity: &Identity) -> Result<()> {
    match db::oidc::get(conn, &identity.issuer, &identity.subject)? {
        Some(known) if known.user_id == *user => return Ok(()),
        Some(_) => return Err(elsewhere()),
        None => {}
    }
    let id = add(conn, ctx, user, identity, None)?;
    let event = Event::success(Action::OidcLink)
        .with("subject", id.as_str())
        .with("issuer", identity.issuer.as_str());
    audit::record(conn, ctx, event)
}

/// One's own accounts elsewhere, newest first.
///
/// # Errors
/// [`Error::Unauthorized`].
pub async fn list(ctx: &Ctx) -> Result<Vec<Linked>> {
    let user = ctx.caller()?.user_id.clone();
    let rows = ctx
        .db()
        .read(move |conn| Ok(db::oidc::list(conn, &user)?))
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Linked {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            email: row.email,
            created_at: row.created_at,
            last_login_at: row.last_login_at,
        })
        .collect())
}

/// Takes one of one's own accounts elsewhere off this one.
///
/// # Errors
/// [`Error::NotFound`], also for another's; [`Error::Conflict`] when nothing else would be left to
/// sign in with.
pub async fn unlink(ctx: &Ctx, id: &str) -> Result<()> {
    let user = ctx.caller()?.user_id.clone();
    let (inner, id) = (ctx.clone(), id.to_owned());
    ctx.db()
        .write(move |conn| {
            sessions::require_proved(conn, &inner)?;
            let unknown = || Error::NotFound(format!("Identity {id} was not found"));
            let parsed: IdentityId = id.parse().map_err(|_| unknown())?;
            // Two at once must not each count on the other.
            db::users::lock(conn)?;
            let row = db::users::get(conn, &user)?.ok_or(Error::Unauthorized)?;
            let linked = db::oidc::list(conn, &user)?;
            if !linked.iter().any(|linked| linked.id == parsed) {
                return Err(unknown());
            }
            if row.password_hash.is_none() && linked.len() == 1 {
                return Err(Error::Conflict(
                    "Nothing else is left to sign in with; ask an administrator for a link to \
                     choose a password first"
                        .into(),
                ));
            }
            db::oidc::delete(conn, &user, &parsed)?;
            let event = Event::success(Action::OidcUnlink).with("subject", parsed.as_str());
            audit::record(conn, &inner, event)
        })
        .await
}
