//! Signing in and out, and who one is.
//!
//! To add a way of signing in, end its handler in [`begin`].

use actix_session::Session;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::actor::{Credential, Scope};
use crate::auth::session_store::NEW_KEY;
use crate::domain::ctx::Ctx;
use crate::domain::oidc;
use crate::domain::sessions::{self, SignedIn};
use crate::error::{Error, Result};
use crate::web::extract::Json;
use crate::web::reply::{Data, Reply};

/// Address and password.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "email": "you@example.org", "password": "…" }))]
pub struct LoginBody {
    email: String,
    password: String,
    /// A one-time code, or a code for recovery, where the account wants one.
    totp: Option<String>,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub struct UserView {
    user_id: String,
    email: String,
    display_name: String,
    role: &'static str,
    auth_method: &'static str,
}

/// The session, as its own browser may know it.
#[derive(Serialize, ToSchema)]
pub struct OwnSessionView {
    session_id: String,
    /// For the `x-csrf-token` header of every state-changing request.
    csrf_token: String,
    expires_at: String,
    auth_method: &'static str,
}

/// What signing in, and asking for the session, answer.
#[derive(Serialize, ToSchema)]
pub struct SessionAnswer {
    user: UserView,
    session: OwnSessionView,
    oidc_enabled: bool,
}

impl SessionAnswer {
    /// Of a sign-in just now.
    pub(super) fn of(ctx: &Ctx, signed_in: SignedIn) -> Self {
        let auth_method = signed_in.auth_method.as_str();
        Self {
            user: UserView {
                user_id: signed_in.user.id.to_string(),
                email: signed_in.user.email,
                display_name: signed_in.user.display_name,
                role: signed_in.user.role.as_str(),
                auth_method,
            },
            session: OwnSessionView {
                session_id: signed_in.session_id.to_string(),
                csrf_token: signed_in.csrf_token,
                expires_at: signed_in.expires_at.rfc3339(),
                auth_method,
            },
            oidc_enabled: oidc::is_enabled(ctx.app()),
        }
    }
}

/// Who a credential belongs to.
#[derive(Serialize, ToSchema)]
pub struct MeView {
    user_id: String,
    email: String,
    display_name: String,
    role: &'static str,
    auth_method: &'static str,
    /// Null is the whole account.
    scopes: Option<Vec<&'static str>>,
}

/// Hands the key of a new session to the cookie.
///
/// # Errors
/// Internal only.
pub fn begin(session: &Session, signed_in: &SignedIn) -> Result<()> {
    // A key from before the sign-in must not be the key after it.
    session.renew();
    session
        .insert(NEW_KEY, &signed_in.key)
        .map_err(Error::internal)
}

/// # Errors
/// As `sessions::login`.
pub async fn login(ctx: Ctx, session: Session, body: Json<LoginBody>) -> Reply<SessionAnswer> {
    let signed_in = {
        let LoginBody {
            email,
            password,
            totp,
        } = &body.0;
        sessions::login(&ctx, email, password, totp.as_deref()).await?
    };
    begin(&session, &signed_in)?;
    Ok(Data(SessionAnswer::of(&ctx, signed_in)))
}

/// # Errors
/// As `sessions::logout`.
pub async fn logout(ctx: Ctx, session: Session) -> Reply<&'static str> {
    sessions::logout(&ctx).await?;
    session.purge();
    Ok(Data("logged_out"))
}

/// # Errors
/// As `sessions::current`.
pub async fn session(ctx: Ctx) -> Reply<SessionAnswer> {
    let caller = ctx.caller()?;
    let current = sessions::current(&ctx).await?;
    let Credential::Session { csrf_token, .. } = &caller.credential else {
        return Err(Error::Unauthorized);
    };
    let auth_method = caller.auth_method.as_str();
    Ok(Data(SessionAnswer {
        user: UserView {
            user_id: caller.user_id.to_string(),
            email: caller.email.clone(),
            display_name: caller.display_name.clone(),
            role: caller.role.as_str(),
            auth_method,
        },
        session: OwnSessionView {
            session_id: current.id.to_string(),
            csrf_token: csrf_token.0.clone(),
            expires_at: current.expires_at.rfc3339(),
            auth_method,
        },
        oidc_enabled: oidc::is_enabled(ctx.app()),
    }))
}

/// # Errors
/// [`Error::Unauthorized`].
pub async fn me(ctx: Ctx) -> Reply<MeView> {
    let caller = ctx.caller()?;
    let words = |scopes: &Vec<Scope>| scopes.iter().map(|scope| scope.as_str()).collect();
    Ok(Data(MeView {
        user_id: caller.user_id.to_string(),
        email: caller.email.clone(),
        display_name: caller.display_name.clone(),
        role: caller.role.as_str(),
        auth_method: caller.auth_method.as_str(),
        scopes: caller.scopes.as_ref().map(words),
    }))
}
