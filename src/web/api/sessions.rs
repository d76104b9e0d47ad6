//! One's own sign-ins and password.
//!
//! To show more of a sign-in, extend [`SessionView`].

use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ctx::Ctx;
use crate::domain::page::Page;
use crate::domain::password_resets;
use crate::domain::sessions::{self, Session};
use crate::error::Result;
use crate::web::api::PageQuery;
use crate::web::extract::{Json, Query};
use crate::web::reply::{Data, Listed, Reply};

/// A sign-in.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    id: String,
    /// `session` for a password, `oidc` for OpenID Connect.
    auth_method: &'static str,
    address: Option<String>,
    user_agent: Option<String>,
    created_at: String,
    last_seen_at: String,
    expires_at: String,
    /// Whether it is the one that asks.
    current: bool,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            id: session.id.to_string(),
            auth_method: session.auth_method.as_str(),
            address: session.address,
            user_agent: session.user_agent,
            created_at: session.created_at.rfc3339(),
            last_seen_at: session.last_seen_at.rfc3339(),
            expires_at: session.expires_at.rfc3339(),
            current: session.current,
        }
    }
}

/// The old password and the new one.
#[derive(Deserialize, ToSchema)]
pub struct PasswordBody {
    current_password: String,
    /// 12 characters to 256 bytes.
    new_password: String,
}

/// A link's secret and the password that its account is to have.
#[derive(Deserialize, ToSchema)]
pub struct ResetBody {
    /// What is behind the link's `#`.
    token: String,
    /// 12 characters to 256 bytes.
    new_password: String,
}

/// # Errors
/// As `sessions::list`.
pub async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<SessionView>> {
    let request = query.0.parse()?;
    let page = Page::of(sessions::list(&ctx).await?, &request, |one| {
        one.id.to_string()
    });
    Ok(Listed(page.map(SessionView::from)))
}

/// # Errors
/// As `sessions::end`.
pub async fn end(ctx: Ctx, id: Path<String>) -> Reply<&'static str> {
    sessions::end(&ctx, &id).await?;
    Ok(Data("deleted"))
}

/// # Errors
/// As `sessions::change_password`.
pub async fn change_password(ctx: Ctx, body: Json<PasswordBody>) -> Reply<&'static str> {
    sessions::change_password(&ctx, &body.0.current_password, &body.0.new_password).await?;
    Ok(Data("changed"))
}

/// # Errors
/// As `password_resets::redeem`.
pub async fn reset_password(ctx: Ctx, body: Json<ResetBody>) -> Reply<&'static str> {
    password_resets::redeem(&ctx, &body.0.token, &body.0.new_password).await?;
    Ok(Data("changed"))
}

/// One's own password, again.
#[derive(Deserialize, ToSchema)]
pub struct ConfirmBody {
    password: String,
}

/// # Errors
/// As `sessions::confirm`.
pub async fn confirm(ctx: Ctx, body: Json<ConfirmBody>) -> Reply<&'static str> {
    sessions::confirm(&ctx, &body.0.password).await?;
    Ok(Data("confirmed"))
}
