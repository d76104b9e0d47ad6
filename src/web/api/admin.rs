//! Accounts, as administrators manage them.
//!
//! To show more of an account, extend [`AccountView`].

use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PageQuery;
use super::sessions::SessionView;
use crate::domain::ctx::Ctx;
use crate::domain::password_resets::ResetLink;
use crate::domain::time::Time;
use crate::domain::user_admin::{self, Account, Change, NewAccount, UserQuery};
use crate::error::Result;
use crate::web::extract::{Json, Query, QueryWhole};
use crate::web::reply::{Data, Listed, Reply};

/// A link by which a password is chosen, once.
#[derive(Serialize, ToSchema)]
pub struct LinkView {
    /// To be handed to the account's owner; not shown again.
    url: String,
    expires_at: String,
}

impl From<ResetLink> for LinkView {
    fn from(link: ResetLink) -> Self {
        Self {
            url: link.url,
            expires_at: link.expires_at.rfc3339(),
        }
    }
}

/// An account.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    id: String,
    email: String,
    display_name: String,
    /// `admin` or `user`.
    role: &'static str,
    /// `active` or `disabled`.
    status: &'static str,
    created_at: String,
    last_login_at: Option<String>,
    has_password: bool,
    /// Whether signing in with the password wants a one-time code too.
    totp_enabled: bool,
    /// Whether it can sign in with OpenID Connect.
    oidc_linked: bool,
    passkeys: i64,
    /// Sign-ins that have not ended.
    sessions: i64,
    containers: i64,
    /// Only in the answer that made an account without a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<LinkView>,
}

impl AccountView {
    fn of(account: Account, reset: Option<ResetLink>) -> Self {
        Self {
            id: account.user.id.to_string(),
            email: account.user.email,
            display_name: account.user.display_name,
            role: account.user.role.as_str(),
            status: account.user.status.as_str(),
            created_at: account.user.created_at.rfc3339(),
            last_login_at: account.last_login_at.map(Time::rfc3339),
            has_password: account.has_password,
            totp_enabled: account.has_totp,
            oidc_linked: account.has_oidc,
            passkeys: account.passkeys,
            sessions: account.sessions,
            containers: account.containers,
            reset: reset.map(LinkView::from),
        }
    }
}

/// Which accounts.
#[derive(Deserialize)]
pub struct AccountQuery {
    q: Option<String>,
    role: Option<String>,
    status: Option<String>,
    limit: Option<QueryWhole>,
    cursor: Option<String>,
}

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "email": "ann@example.org", "role": "user" }))]
pub struct NewAccountBody {
    email: String,
    /// 1 to 100 characters; the part of the address before the `@` when none.
    display_name: Option<String>,
    /// `admin` or `user`, which it is when none.
    role: Option<String>,
    /// 12 characters to 256 bytes; when none, the answer has a link by which the owner chooses one.
    password: Option<String>,
}

/// What is to change.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "role": "admin" }))]
pub struct ChangeBody {
    /// 1 to 100 characters.
    display_name: Option<String>,
    /// `admin` or `user`.
    role: Option<String>,
    /// `active` or `disabled`; disabling ends the account's sessions.
    status: Option<String>,
}

/// How many sign-ins were ended.
#[derive(Serialize, ToSchema)]
pub struct EndedView {
    ended: usize,
}

/// # Errors
/// As `user_admin::search`.
pub async fn list(ctx: Ctx, query: Query<AccountQuery>) -> Result<Listed<AccountView>> {
    let AccountQuery {
        q,
        role,
        status,
        limit,
        cursor,
    } = query.0;
    let page = PageQuery { limit, cursor }.parse()?;
    let found = user_admin::search(&ctx, UserQuery { q, role, status }, page).await?;
    Ok(Listed(found.map(|account| AccountView::of(account, None))))
}

/// # Errors
/// As `user_admin::create`.
pub async fn create(ctx: Ctx, body: Json<NewAccountBody>) -> Reply<AccountView> {
    let new = NewAccount {
        email: body.0.email,
        display_name: body.0.display_name,
        role: body.0.role,
        password: body.0.password,
    };
    let (account, link) = user_admin::create(&ctx, new).await?;
    Ok(Data(AccountView::of(account, link)))
}

/// # Errors
/// As `user_admin::get`.
pub async fn get(ctx: Ctx, id: Path<String>) -> Reply<AccountView> {
    let account = user_admin::get(&ctx, &id).await?;
    Ok(Data(AccountView::of(account, None)))
}

/// # Errors
/// As `user_admin::change`.
pub async fn change(ctx: Ctx, id: Path<String>, body: Json<ChangeBody>) -> Reply<AccountView> {
    let change = Change {
        display_name: body.0.display_name,
        role: body.0.role,
        status: body.0.status,
    };
    let account = user_admin::change(&ctx, &id, change).await?;
    Ok(Data(AccountView::of(account, None)))
}

/// # Errors
/// As `user_admin::reset`.
pub async fn reset(ctx: Ctx, id: Path<String>) -> Reply<LinkView> {
    Ok(Data(user_admin::reset(&ctx, &id).await?.into()))
}

/// # Errors
/// As `user_admin::list_sessions`.
pub async fn sessions(ctx: Ctx, id: Path<String>) -> Reply<Vec<SessionView>> {
    let sessions = user_admin::list_sessions(&ctx, &id).await?;
    Ok(Data(sessions.into_iter().map(SessionView::from).collect()))
}

/// # Errors
/// As `user_admin::end_sessions`.
pub async fn end_sessions(ctx: Ctx, id: Path<String>) -> Reply<EndedView> {
    let ended = user_admin::end_sessions(&ctx, &id).await?;
    Ok(Data(EndedView { ended }))
}

/// # Errors
/// As `user_admin::end_session`.
pub async fn end_session(ctx: Ctx, path: Path<(String, String)>) -> Reply<&'static str> {
    let (id, session) = path.into_inner();
    user_admin::end_session(&ctx, &id, &session).await?;
    Ok(Data("deleted"))
}

/// # Errors
/// As `user_admin::remove_totp`.
pub async fn remove_totp(ctx: Ctx, id: Path<String>) -> Reply<&'static str> {
    user_admin::remove_totp(&ctx, &id).await?;
    Ok(Data("deleted"))
}
