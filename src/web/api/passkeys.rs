//! Passkeys: made by a signed-in browser, and used to sign in.
//!
//! To show more of a passkey, extend [`PasskeyView`].

use actix_session::Session;
use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::{SessionAnswer, begin};
use crate::domain::ctx::Ctx;
use crate::domain::page::Page;
use crate::domain::passkeys::{self, Asked, Passkey};
use crate::domain::time::Time;
use crate::error::Result;
use crate::web::api::PageQuery;
use crate::web::extract::{Json, Query};
use crate::web::reply::{Data, Listed, Reply};

/// A passkey.
#[derive(Serialize, ToSchema)]
pub struct PasskeyView {
    id: String,
    name: String,
    created_at: String,
    last_used_at: Option<String>,
}

impl From<Passkey> for PasskeyView {
    fn from(passkey: Passkey) -> Self {
        Self {
            id: passkey.id.to_string(),
            name: passkey.name,
            created_at: passkey.created_at.rfc3339(),
            last_used_at: passkey.last_used_at.map(Time::rfc3339),
        }
    }
}

/// What to ask the device.
#[derive(Serialize, ToSchema)]
pub struct AskedView {
    /// To be sent with the device's answer.
    ticket: String,
    /// For `navigator.credentials`; bytes are base64url.
    #[schema(value_type = Object)]
    options: Value,
}

impl From<Asked> for AskedView {
    fn from(asked: Asked) -> Self {
        Self {
            ticket: asked.ticket,
            options: asked.options,
        }
    }
}

/// The device's answer to making a passkey.
#[derive(Deserialize, ToSchema)]
pub struct NewPasskeyBody {
    ticket: String,
    /// 1 to 100 characters.
    name: String,
    /// A `PublicKeyCredential` as JSON.
    #[schema(value_type = Object)]
    credential: Value,
}

/// The device's answer to signing in.
#[derive(Deserialize, ToSchema)]
pub struct PasskeyLoginBody {
    ticket: String,
    /// A `PublicKeyCredential` as JSON.
    #[schema(value_type = Object)]
    credential: Value,
}

/// # Errors
/// As `passkeys::start`.
pub async fn start(ctx: Ctx) -> Reply<AskedView> {
    Ok(Data(passkeys::start(&ctx).await?.into()))
}

/// # Errors
/// As `passkeys::finish`.
pub async fn finish(ctx: Ctx, body: Json<NewPasskeyBody>) -> Reply<PasskeyView> {
    let NewPasskeyBody {
        ticket,
        name,
        credential,
    } = body.0;
    let made = passkeys::finish(&ctx, &ticket, &name, credential).await?;
    Ok(Data(made.into()))
}

/// # Errors
/// As `passkeys::list`.
pub async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<PasskeyView>> {
    let request = query.0.parse()?;
    let page = Page::of(passkeys::list(&ctx).await?, &request, |one| {
        one.id.to_string()
    });
    Ok(Listed(page.map(PasskeyView::from)))
}

/// # Errors
/// As `passkeys::remove`.
pub async fn remove(ctx: Ctx, id: Path<String>) -> Reply<&'static str> {
    passkeys::remove(&ctx, &id).await?;
    Ok(Data("deleted"))
}

/// # Errors
/// As `passkeys::start_login`.
pub async fn start_login(ctx: Ctx) -> Reply<AskedView> {
    Ok(Data(passkeys::start_login(&ctx).await?.into()))
}

/// # Errors
/// As `passkeys::login`.
pub async fn login(
    ctx: Ctx,
    session: Session,
    body: Json<PasskeyLoginBody>,
) -> Reply<SessionAnswer> {
    let PasskeyLoginBody { ticket, credential } = body.0;
    let signed_in = passkeys::login(&ctx, &ticket, credential).await?;
    begin(&session, &signed_in)?;
    Ok(Data(SessionAnswer::of(&ctx, signed_in)))
}
