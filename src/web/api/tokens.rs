//! Personal access tokens.
//!
//! To show more of a token, extend [`TokenView`].

use actix_web::web::Path;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PageQuery;
use crate::domain::ctx::Ctx;
use crate::domain::time::Time;
use crate::domain::tokens::{self, NewToken, Token};
use crate::error::{Error, Result};
use crate::web::extract::{Json, Query};
use crate::web::reply::{Data, Listed, Reply};

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "name": "laptop", "scopes": ["containers:read"] }))]
pub struct NewTokenBody {
    /// 1 to 100 characters.
    name: String,
    /// RFC 3339; never when none.
    expires_at: Option<String>,
    /// The whole account when none.
    scopes: Option<Vec<String>>,
}

/// A token; its secret only in the answer that made it.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    id: String,
    name: String,
    prefix: String,
    /// Null is the whole account.
    scopes: Option<Vec<&'static str>>,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

impl TokenView {
    fn of(token: Token, secret: Option<String>) -> Self {
        Self {
            token: secret,
            id: token.id.to_string(),
            name: token.name,
            prefix: token.prefix,
            scopes: token
                .scopes
                .map(|all| all.iter().map(|scope| scope.as_str()).collect()),
            created_at: token.created_at.rfc3339(),
            expires_at: token.expires_at.map(Time::rfc3339),
            last_used_at: token.last_used_at.map(Time::rfc3339),
            revoked_at: token.revoked_at.map(Time::rfc3339),
        }
    }
}

/// # Errors
/// As `tokens::list`.
pub async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<TokenView>> {
    let page = tokens::list(&ctx, query.0.parse()?).await?;
    Ok(Listed(page.map(|token| TokenView::of(token, None))))
}

/// # Errors
/// As `tokens::create`.
pub async fn create(ctx: Ctx, body: Json<NewTokenBody>) -> Reply<TokenView> {
    let expires_at = body.0.expires_at.map(|text| {
        DateTime::parse_from_rfc3339(&text)
            .map(|at| Time::from(at.with_timezone(&Utc)))
            .map_err(|_| {
                let rule = "expires_at must be a time such as 2030-01-31T12:00:00Z";
                Error::field("expires_at", rule)
            })
    });
    let new = NewToken {
        name: body.0.name,
        expires_at: expires_at.transpose()?,
        scopes: body.0.scopes,
    };
    let (token, secret) = tokens::create(&ctx, new).await?;
    Ok(Data(TokenView::of(token, secret)))
}

/// # Errors
/// As `tokens::revoke`.
pub async fn revoke(ctx: Ctx, id: Path<String>) -> Reply<&'static str> {
    tokens::revoke(&ctx, &id).await?;
    Ok(Data("revoked"))
}
