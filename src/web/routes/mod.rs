//! The one table of routes: what is served, who may ask, what a token needs, what is audited, and
//! what the documentation says. Routing, the gate, OpenAPI and the tests of refusals all read it.
//!
//! To add a route, add a line to the file of its area. A page's lines have no documentation; the
//! API's must. To add an area, add a file with a `TABLE` and name it in [`AREAS`].

mod audit;
mod containers;
mod identity;
mod live;
mod oauth;
mod pages;
mod probes;
mod terminals;

use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, Resource, Route, guard, web};

use super::error::{response, unknown_route};
use super::openapi::{Doc, Shape};
use super::{assets, gate};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::error::{Error, Result};

/// The methods that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Answers HEAD too.
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn route(self, surface: Surface) -> Route {
        match self {
            Self::Get if surface == Surface::Ws => web::get(),
            Self::Get => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            Self::Post => web::post(),
            Self::Put => web::put(),
            Self::Patch => web::patch(),
            Self::Delete => web::delete(),
        }
    }
}

/// Who may ask at all; what they may do is the domain's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    /// Any credential.
    Any,
    /// Any but an OAuth application's token.
    Direct,
    /// A signed-in browser only.
    Session,
}

/// What kind of thing a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Api,
    Page,
    /// For machines that watch, outside the API's path.
    Probe,
    /// A WebSocket.
    Ws,
}

/// One route.
pub struct Endpoint {
    pub verb: Verb,
    pub path: &'static str,
    pub surface: Surface,
    pub access: Access,
    /// What a limited token needs.
    pub scope: Option<Scope>,
    /// What a refused or failed request is recorded as.
    pub action: Option<Action>,
    pub doc: Option<Doc>,
    /// Whether its body is handled as it comes, and may be larger than memory.
    pub streams: bool,
    /// Whether it is for signing in: a stranger who is refused for where the request comes from is
    /// recorded.
    pub signs_in: bool,
    handler: fn(Route) -> Route,
}

impl Endpoint {
    const fn new(
        verb: Verb,
        path: &'static str,
        surface: Surface,
        access: Access,
        handler: fn(Route) -> Route,
    ) -> Self {
        Self {
            verb,
            path,
            surface,
            access,
            scope: None,
            action: None,
            doc: None,
            streams: false,
            signs_in: false,
            handler,
        }
    }

    const fn api(
        verb: Verb,
        path: &'static str,
        access: Access,
        handler: fn(Route) -> Route,
    ) -> Self {
        Self::new(verb, path, Surface::Api, access, handler)
    }

    const fn page(
        verb: Verb,
        path: &'static str,
        access: Access,
        handler: fn(Route) -> Route,
    ) -> Self {
        Self::new(verb, path, Surface::Page, access, handler)
    }

    const fn probe(path: &'static str, handler: fn(Route) -> Route) -> Self {
        Self::new(Verb::Get, path, Surface::Probe, Access::Anyone, handler)
    }

    const fn ws(path: &'static str, access: Access, handler: fn(Route) -> Route) -> Self {
        Self::new(Verb::Get, path, Surface::Ws, access, handler)
    }

    const fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    const fn action(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }

    const fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    const fn signs_in(mut self) -> Self {
        self.signs_in = true;
        self
    }

    /// Whether a path is one of its own.
    fn fits(&self, path: &str) -> bool {
        let (mut asked, mut known) = (path.split('/'), self.path.split('/'));
        loop {
            match (asked.next(), known.next()) {
                (None, None) => return true,
                (Some(asked), Some(known)) if asked == known => {}
                (Some(asked), Some(known)) if known.starts_with('{') && !asked.is_empty() => {}
                _ => return false,
            }
        }
    }

    const fn doc(mut self, doc: Doc) -> Self {
        self.doc = Some(doc);
        self
    }
}

/// The areas of the table; the first line of a path that fits is the one that is served.
const AREAS: &[&[Endpoint]] = &[
    probes::TABLE,
    identity::TABLE,
    audit::TABLE,
    containers::TABLE,
    oauth::TABLE,
    live::TABLE,
    terminals::TABLE,
    pages::TABLE,
];

/// All routes.
pub fn table() -> impl Iterator<Item = &'static Endpoint> {
    AREAS.iter().copied().flatten()
}

/// Those that answer JSON: the API and the probes.
pub fn api() -> impl Iterator<Item = &'static Endpoint> {
    table().filter(|endpoint| matches!(endpoint.surface, Surface::Api | Surface::Probe))
}

/// The WebSockets.
pub fn sockets() -> impl Iterator<Item = &'static Endpoint> {
    table().filter(|endpoint| endpoint.surface == Surface::Ws)
}

/// Whether a WebSocket is at that path, to the letter.
#[must_use]
pub fn is_socket(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    path.chars().all(plain) && sockets().any(|endpoint| endpoint.fits(path))
}

/// The page that a form sent to `path` belongs to: the nearest at or above it that can be asked for.
#[must_use]
pub fn page_above(path: &str) -> &str {
    let mut path = path;
    while let Some((above, _)) = path.rsplit_once('/') {
        if pages().any(|page| page.verb == Verb::Get && page.fits(path)) {
            return path;
        }
        path = above;
    }
    "/"
}

/// Those that answer pages.
pub fn pages() -> impl Iterator<Item = &'static Endpoint> {
    table().filter(|endpoint| endpoint.surface == Surface::Page)
}

/// Registers the table: a resource a path, a route a method, the gate around each.
pub fn configure(config: &mut web::ServiceConfig) {
    let mut paths: Vec<&'static str> = Vec::new();
    for endpoint in table() {
        if !paths.contains(&endpoint.path) {
            paths.push(endpoint.path);
        }
    }
    for path in paths {
        let routes: Vec<&'static Endpoint> = table().filter(|e| e.path == path).collect();
        config.service(resource(path, &routes));
    }
    config.route(
        "/static/{path:.*}",
        Verb::Get.route(Surface::Page).to(asset),
    );
}

fn resource(path: &'static str, endpoints: &[&'static Endpoint]) -> Resource {
    let mut resource = web::resource(path);
    let mut allow: Vec<&'static str> = Vec::new();
    for endpoint in endpoints {
        let endpoint: &'static Endpoint = endpoint;
        allow.push(endpoint.verb.as_str());
        if endpoint.verb == Verb::Get && endpoint.surface != Surface::Ws {
            allow.push("HEAD");
        }
        let route = (endpoint.handler)(endpoint.verb.route(endpoint.surface));
        let gate = from_fn(move |request, next| gate::wrap(endpoint, request, next));
        resource = resource.route(route.wrap(gate));
    }
    let allow = allow.join(", ");
    resource.default_service(web::to(move || {
        let allow = allow.clone();
        async move {
            let mut answer = response(&Error::MethodNotAllowed);
            if let Ok(value) = header::HeaderValue::from_str(&allow) {
                answer.headers_mut().insert(header::ALLOW, value);
            }
            Ok::<HttpResponse, Error>(answer)
        }
    }))
}

/// An embedded file: the same for everyone, so it has no gate.
async fn asset(request: HttpRequest) -> Result<HttpResponse> {
    match assets::serve(&request) {
        Some(answer) => Ok(answer),
        None => unknown_route().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_belongs_to_a_page_that_can_be_asked_for() {
        for (form, page) in [
            ("/tokens", "/tokens"),
            ("/admin/users", "/admin/users"),
            ("/admin/users/x/totp/remove", "/admin/users/x"),
            ("/apps/x/secret", "/apps/x"),
            ("/profile/totp/confirm", "/profile"),
            ("/profile/passkeys/x/remove", "/profile"),
            ("/nothing", "/"),
        ] {
            assert_eq!(page_above(form), page);
        }
    }
}
