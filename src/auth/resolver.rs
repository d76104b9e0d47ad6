//! Who is calling, found in one place. The first credential that is *present* decides: a present
//! but bad one is refused, and nothing weaker is tried.
//!
//! To add a kind of credential, add its branch here, in the order of strength.

use actix_session::SessionExt;
use actix_web::dev::ServiceRequest;
use actix_web::http::header;

use super::actor::{Actor, Caller};
use super::secrets;
use super::session_store::CALLER;
use crate::app::App;
use crate::domain::{oauth, tickets, tokens};
use crate::error::{Error, Result};

/// What a page sends with the looks that it takes by itself while nobody moves a hand: a page left
/// open must not keep its session from coming to its idle end.
const POLL: &str = "x-hzel-poll";

/// Where a credential may be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// The header and the cookie.
    Usual,
    /// The query too: a browser can give a WebSocket's request no header.
    WithQuery,
}

/// Who asks, and how that is known.
#[derive(Debug)]
pub struct Resolved {
    pub actor: Actor,
    /// Whether a browser sent the credential by itself, so that the request may be another's doing.
    pub ambient: bool,
}

/// The actor of a request; anonymous only when no credential came with it.
///
/// # Errors
/// [`Error::Unauthorized`] for a credential that is not valid.
pub async fn resolve(app: &App, request: &ServiceRequest, places: Places) -> Result<Resolved> {
    let mut given = request.headers().get_all(header::AUTHORIZATION);
    if let Some(value) = given.next() {
        // Of two, either may be the one that was meant.
        if given.next().is_some() {
            return Err(Error::Unauthorized);
        }
        let text = value.to_str().map_err(|_| Error::Unauthorized)?;
        let secret = bearer(text).ok_or(Error::Unauthorized)?;
        return known(by_token(app, secret).await?, false);
    }
    if places == Places::WithQuery
        && let Some(secret) = token_of_query(request)?
    {
        let found = if secret.starts_with(secrets::TICKET) {
            tickets::redeem(app, &secret, request.path()).await?
        } else {
            by_token(app, &secret).await?
        };
        return known(found, false);
    }
    if request.cookie(app.config.session_cookie()).is_some() {
        // actix-session has read the row; a cookie without one has ended or was made up.
        let caller = request
            .get_session()
            .get::<Caller>(CALLER)
            .map_err(Error::internal)?;
        if let Some(id) = caller.as_ref().and_then(Caller::session_id)
            && !request.headers().contains_key(POLL)
        {
            app.touched.session(id, app.clock.now().into());
        }
        return known(caller, true);
    }
    Ok(Resolved {
        actor: Actor::Anonymous,
        ambient: false,
    })
}

fn known(found: Option<Caller>, ambient: bool) -> Result<Resolved> {
    let caller = found.ok_or(Error::Unauthorized)?;
    Ok(Resolved {
        actor: Actor::Caller(Box::new(caller)),
        ambient,
    })
}

async fn by_token(app: &App, secret: &str) -> Result<Option<Caller>> {
    if secret.starts_with(secrets::ACCESS_TOKEN) {
        oauth::token::authenticate(app, secret).await
    } else {
        tokens::authenticate(app, secret).await
    }
}

/// The one `token` of the query.
fn token_of_query(request: &ServiceRequest) -> Result<Option<String>> {
    let pairs = url::form_urlencoded::parse(request.query_string().as_bytes());
    let mut tokens = pairs.filter(|(name, _)| name == "token");
    let first = tokens.next().map(|(_, value)| value.into_owned());
    if tokens.next().is_some() {
        return Err(Error::Unauthorized);
    }
    Ok(first)
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

/// Whether a browser says that one of our own pages asks: what an upgrade by cookie needs, for it has
/// no other proof.
#[must_use]
pub fn is_same_origin(app: &App, request: &ServiceRequest) -> bool {
    request.headers().contains_key(header::ORIGIN) && !is_cross_origin(app, request)
}

/// Whether the request says which origin it comes from, and that is not ours: a second line behind
/// the CSRF token, and the only one before there is a session.
#[must_use]
pub fn is_cross_origin(app: &App, request: &ServiceRequest) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site")
        && !matches!(site, "same-origin" | "none")
    {
        return true;
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    if origin == app.config.public_origin() {
        return false;
    }
    // A browser that came by another name of this machine: same host and port as it asked for.
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let same_host = origin
        .split_once("://")
        .is_some_and(|(_, rest)| rest == host);
    !same_host || host.is_empty()
}
