//! What applications ask about tokens that they have: what one is worth, and its end.
//!
//! To tell more of a token, extend [`Examined`].

use super::denied;
use super::refused::Refused;
use super::token::{Client, access_is_alive, identify, known};
use crate::auth::secrets;
use crate::db;
use crate::db::oauth_tokens::{FamilyRow, RefreshTokenRow};
use crate::db::users::UserRow;
use crate::domain::access;
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::time::Time;
use crate::domain::users::Status;

/// What is known of a token that is valid.
#[derive(Debug, Clone)]
pub struct Examined {
    pub user_id: String,
    /// Space-separated.
    pub scope: String,
    pub created_at: Time,
    pub expires_at: Time,
    /// Of an access token; else it is a refresh token.
    pub access: bool,
}

fn refresh_is_alive(row: &RefreshTokenRow, family: &FamilyRow, user: &UserRow, now: Time) -> bool {
    row.used_at.is_none()
        && row.expires_at > now
        && family.revoked_at.is_none()
        && family.refresh_revoked_at.is_none()
        && user.status == Status::Active
}

/// Revokes a token of that application: an access token alone, a refresh token with all of its
/// family. A token that is none is no error (RFC 7009, 2.2).
///
/// # Errors
/// Why not, in the terms of RFC 6749.
pub async fn revoke(
    ctx: &Ctx,
    client: Option<Client>,
    token: Option<String>,
) -> std::result::Result<(), Refused> {
    let who = client.as_ref().map(|client| client.id.clone());
    let outcome = end(ctx, client, token).await;
    denied::settle(ctx, Action::OauthTokenRevoke, who, outcome).await
}

async fn end(
    ctx: &Ctx,
    client: Option<Client>,
    token: Option<String>,
) -> std::result::Result<(), Refused> {
    let token = required_token(token)?;
    let client = known(ctx, client).await?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            let app = match identify(conn, &client)? {
                Ok(app) => app,
                Err(refused) => return Ok(Err(refused)),
            };
            let hash = secrets::hash(&token);
            let now = inner.now();
            let (family, user, revoked) = if secrets::is_well_formed(secrets::ACCESS_TOKEN, &token)
            {
                let Some((row, family, user)) = db::oauth_tokens::access(conn, &hash)? else {
                    return Ok(Ok(()));
                };
                let revoked =
                    family.app_id == app.id && db::oauth_tokens::revoke_access(conn, &row.id, now)?;
                (family, user, revoked)
            } else if secrets::is_well_formed(secrets::REFRESH_TOKEN, &token) {
                let Some((_, family, user)) = db::oauth_tokens::refresh(conn, &hash)? else {
                    return Ok(Ok(()));
                };
                let revoked = family.app_id == app.id
                    && db::oauth_tokens::revoke_family(conn, &family.id, now)?;
                (family, user, revoked)
            } else {
                return Ok(Ok(()));
            };
            if family.app_id != app.id {
                return Ok(Err(Refused::AnothersToken));
            }
            if revoked {
                access::ring_user(&inner, &user.id);
                let event = Event::success(Action::OauthTokenRevoke)
                    .by(&user.id)
                    .with("subject", app.id.as_str())
                    .with("name", app.name.as_str())
                    .with("family_id", family.id.as_str());
                audit::record(conn, &inner, event)?;
            }
            Ok(Ok(()))
        })
        .await?
}

/// What is known of a token of that application; none when it is not valid, or another's. Public
/// applications cannot prove who they are and may not ask (RFC 7662, 2.1).
///
/// # Errors
/// Why not, in the terms of RFC 6749.
pub async fn introspect(
    ctx: &Ctx,
    client: Option<Client>,
    token: Option<String>,
) -> std::result::Result<Option<Examined>, Refused> {
    let who = client.as_ref().map(|client| client.id.clone());
    let outcome = examine(ctx, client, token).await;
    denied::settle(ctx, Action::OauthIntrospect, who, outcome).await
}

async fn examine(
    ctx: &Ctx,
    client: Option<Client>,
    token: Option<String>,
) -> std::result::Result<Option<Examined>, Refused> {
    let token = required_token(token)?;
    let client = client.ok_or(Refused::NoClient)?;
    let now = ctx.now();
    ctx.db()
        .read(move |conn| {
            let app = match identify(conn, &client)? {
                Ok(app) if app.public => return Ok(Err(Refused::Client)),
                Ok(app) => app,
                Err(refused) => return Ok(Err(refused)),
            };
            let hash = secrets::hash(&token);
            if secrets::is_well_formed(secrets::ACCESS_TOKEN, &token) {
                let found = db::oauth_tokens::access(conn, &hash)?;
                let found = found.filter(|(row, family, user)| {
                    family.app_id == app.id && access_is_alive(row, family, user, now)
                });
                return Ok(Ok(found.map(|(row, family, _)| Examined {
                    user_id: family.user_id.to_string(),
                    scope: row.scopes,
                    created_at: row.created_at,
                    expires_at: row.expires_at,
                    access: true,
                })));
            }
            if secrets::is_well_formed(secrets::REFRESH_TOKEN, &token) {
                let found = db::oauth_tokens::refresh(conn, &hash)?;
                let found = found.filter(|(row, family, user)| {
                    family.app_id == app.id && refresh_is_alive(row, family, user, now)
                });
                return Ok(Ok(found.map(|(row, family, _)| Examined {
                    user_id: family.user_id.to_string(),
                    scope: family.scopes,
                    created_at: row.created_at,
                    expires_at: row.expires_at,
                    access: false,
                })));
            }
            Ok(Ok(None))
        })
        .await?
}

fn required_token(token: Option<String>) -> std::result::Result<String, Refused> {
    token
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refused::Request {
            field: "token",
            message: "token is required".into(),
        })
}
