//! HTTP: one server for the API, the pages and the WebSockets. What a request passes through, outermost first:
//! the log's span, [`envelope`] (request id, errors, headers), the session cookie, compression,
//! the route, [`gate`] (who may), the handler.
//!
//! To add a route, add a line to [`routes::table`]; nothing else registers one.

pub mod api;
pub mod assets;
pub mod download;
pub mod envelope;
pub mod error;
pub mod extract;
pub mod form_token;
pub mod gate;
pub mod openapi;
pub mod pages;
pub mod reply;
pub mod routes;
mod span;
mod wrong_type;
pub mod ws;

use std::net::TcpListener;
use std::time::Duration;

use actix_session::SessionMiddleware;
use actix_session::config::BrowserSession;
use actix_web::cookie::{Key, SameSite};
use actix_web::dev::Server;
use actix_web::middleware::{Compress, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{HttpServer, web};
use rustix::net::sockopt::set_tcp_user_timeout;

use crate::app::App;
use crate::auth::session_store::DbSessionStore;

/// How long requests may take to end when the server stops, in seconds.
const SHUTDOWN_SECONDS: u64 = 5;

/// How long what was sent may lie untaken by a peer that is gone, or reads nothing, before the
/// connection counts as lost, in milliseconds.
const UNTAKEN_MS: u32 = 120_000;

/// The server on a listener that is bound already.
///
/// # Errors
/// When the listener cannot be used.
pub fn server(app: App, listener: TcpListener, cookie_key: Key) -> std::io::Result<Server> {
    let secure = app.config.is_https();
    let server = HttpServer::new(move || {
        let session =
            SessionMiddleware::builder(DbSessionStore::new(app.clone()), cookie_key.clone())
                .cookie_name(app.config.session_cookie().to_owned())
                .cookie_secure(secure)
                .cookie_http_only(true)
                .cookie_same_site(SameSite::Lax)
                .cookie_path("/".into())
                .session_lifecycle(BrowserSession::default())
                .build();
        actix_web::App::new()
            .app_data(web::Data::new(app.clone()))
            .configure(routes::configure)
            .default_service(web::to(error::unknown_route))
            .wrap(Compress::default())
            .wrap(session)
            .wrap(from_fn(envelope::wrap))
            .wrap(tracing_actix_web::TracingLogger::<span::RequestSpan>::new())
    })
    .on_connect(|io, _| {
        if let Some(stream) = io.downcast_ref::<TcpStream>()
            && let Err(error) = set_tcp_user_timeout(stream, UNTAKEN_MS)
        {
            tracing::debug!(%error, "a connection has no time-out of its own");
        }
    })
    .listen(listener)?
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .client_request_timeout(Duration::from_secs(30))
    .disable_signals()
    .run();
    Ok(server)
}
