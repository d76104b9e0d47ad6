//! hzel as an OAuth 2.0 authorization server (RFC 6749 with PKCE, RFC 7009, 7662, 8414 and 9207;
//! opaque tokens, of which only hashes are kept): the applications, what their users allow them,
//! and the tokens that come of it.
//!
//! One authorization, followed: [`authorize::check`] reads what the application asks, the user
//! decides ([`authorize::decide`]) and gets a code for it, and [`token::exchange`] gives tokens for
//! the code. All tokens of one code are a family; whatever looks like theft revokes it as a whole.
//!
//! To add a grant, add it to [`token::exchange`] and to the metadata in `web::api::oauth_token`.

pub mod about;
pub mod apps;
pub mod authorizations;
pub mod authorize;
mod denied;
pub mod redirect;
pub mod refused;
pub mod token;

use chrono::TimeDelta;

use crate::auth::actor::Scope;
use crate::db;
use crate::domain::ctx::Ctx;
use crate::error::Result;

/// How long an authorization code lives, in minutes.
pub const CODE_MINUTES: i64 = 10;
/// How long an access token lives, in seconds.
pub const ACCESS_SECONDS: i64 = 900;
/// How long a refresh token lives, in days.
pub const REFRESH_DAYS: i64 = 30;

fn to_text(scopes: &[Scope]) -> String {
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    words.join(" ")
}

fn from_text(text: &str) -> Vec<Scope> {
    text.split(' ').filter_map(Scope::from_text).collect()
}

/// The scopes of a request: space-separated words, each once. None, or an empty text, is all of
/// them: what the application then asks for is spelled out to the user.
///
/// # Errors
/// The word that is no scope.
fn requested(text: Option<&str>) -> std::result::Result<Vec<Scope>, String> {
    let mut scopes = Vec::new();
    for word in text
        .unwrap_or_default()
        .split(' ')
        .filter(|w| !w.is_empty())
    {
        let scope = Scope::from_text(word).ok_or_else(|| word.to_owned())?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        scopes.extend_from_slice(Scope::ALL);
    }
    Ok(scopes)
}

/// Forgets codes and tokens that have ended.
///
/// # Errors
/// When the database fails.
pub async fn forget_ended(ctx: &Ctx) -> Result<usize> {
    ctx.require_admin()?;
    let now = ctx.now();
    let codes_before = now.plus(-TimeDelta::days(REFRESH_DAYS));
    ctx.db()
        .write(move |conn| Ok(db::oauth_tokens::delete_ended(conn, now, codes_before)?))
        .await
}
