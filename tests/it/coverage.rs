//! Every route, by the program's own table: who is refused, and how. A route without a row in
//! [`EXPECTED`] fails the test, so that no new one is forgotten.

use hzel::web::routes::{
    Access, Endpoint, Surface, Verb, api as api_routes, pages as page_routes, sockets,
};
use serde_json::json;

use crate::harness::client::send;
use crate::harness::{ADMIN, Client, Reply, Server};

on_both!(api, pages);

/// What another user than its owner is answered about a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    /// Nothing is anybody's here.
    None,
    /// A list of one's own.
    OwnList,
    /// The route needs the role.
    AdminOnly,
    /// Someone else's container: FORBIDDEN.
    Container,
    /// Someone else's thing whose existence does not leak.
    Hidden,
    /// One's own for as long as one listens: what strangers hear is tried with the events.
    Endless,
}

use Stranger::{AdminOnly, Container, Endless, Hidden, None, OwnList};

const EXPECTED: &[(&str, Stranger)] = &[
    ("GET /healthz", None),
    ("GET /readyz", None),
    ("GET /openapi.json", None),
    ("GET /api/v1/healthz", None),
    ("GET /api/v1/readyz", None),
    ("GET /api/v1/openapi.json", None),
    ("POST /api/v1/auth/login", None),
    ("POST /api/v1/auth/logout", None),
    ("GET /api/v1/auth/session", None),
    ("GET /api/v1/auth/me", None),
    ("GET /api/v1/auth/sessions", OwnList),
    ("DELETE /api/v1/auth/sessions/{id}", Hidden),
    ("POST /api/v1/auth/password", None),
    ("GET /api/v1/auth/oidc/authorize", None),
    ("GET /api/v1/auth/oidc/callback", None),
    ("GET /api/v1/auth/oidc/identities", OwnList),
    ("POST /api/v1/auth/oidc/link", None),
    ("DELETE /api/v1/auth/oidc/identities/{id}", Hidden),
    ("POST /api/v1/auth/reset", None),
    ("POST /api/v1/auth/confirm", None),
    ("GET /api/v1/auth/passkeys", OwnList),
    ("POST /api/v1/auth/passkeys/start", None),
    ("POST /api/v1/auth/passkeys", None),
    ("DELETE /api/v1/auth/passkeys/{id}", Hidden),
    ("POST /api/v1/auth/login/passkey/start", None),
    ("POST /api/v1/auth/login/passkey", None),
    ("GET /api/v1/auth/totp", None),
    ("POST /api/v1/auth/totp", None),
    ("POST /api/v1/auth/totp/confirm", None),
    ("POST /api/v1/auth/totp/recovery", None),
    ("DELETE /api/v1/auth/totp", None),
    ("GET /api/v1/audit-logs", AdminOnly),
    ("GET /api/v1/auth/activity", OwnList),
    ("GET /api/v1/admin/users", AdminOnly),
    ("POST /api/v1/admin/users", AdminOnly),
    ("GET /api/v1/admin/users/{id}", AdminOnly),
    ("PATCH /api/v1/admin/users/{id}", AdminOnly),
    ("POST /api/v1/admin/users/{id}/reset", AdminOnly),
    ("GET /api/v1/admin/users/{id}/sessions", AdminOnly),
    ("DELETE /api/v1/admin/users/{id}/sessions", AdminOnly),
    (
        "DELETE /api/v1/admin/users/{id}/sessions/{session_id}",
        AdminOnly,
    ),
    ("DELETE /api/v1/admin/users/{id}/totp", AdminOnly),
    ("GET /api/v1/tokens", OwnList),
    ("POST /api/v1/tokens", None),
    ("DELETE /api/v1/tokens/{id}", Hidden),
    ("GET /api/v1/images", None),
    ("POST /api/v1/images", AdminOnly),
    ("DELETE /api/v1/images/{name}", AdminOnly),
    ("GET /api/v1/containers", OwnList),
    ("POST /api/v1/containers", AdminOnly),
    ("GET /api/v1/containers/{id}", Container),
    ("DELETE /api/v1/containers/{id}", Container),
    ("POST /api/v1/containers/{id}/start", Container),
    ("POST /api/v1/containers/{id}/stop", Container),
    ("POST /api/v1/containers/{id}/restart", Container),
    ("GET /api/v1/containers/{id}/metrics", Container),
    ("GET /api/v1/containers/{id}/logs", Container),
    ("GET /api/v1/containers/{id}/commands", Container),
    ("POST /api/v1/containers/{id}/commands", Container),
    ("GET /api/v1/containers/{id}/files", Container),
    ("PUT /api/v1/containers/{id}/files", Container),
    ("DELETE /api/v1/containers/{id}/files", Container),
    ("POST /api/v1/containers/{id}/files/mkdir", Container),
    ("POST /api/v1/containers/{id}/files/move", Container),
    ("POST /api/v1/containers/{id}/files/chmod", Container),
    ("GET /api/v1/commands/{id}", Hidden),
    ("POST /api/v1/commands/{id}/cancel", Hidden),
    ("GET /api/v1/oauth/apps/public/{client_id}", None),
    ("GET /api/v1/oauth/apps", OwnList),
    ("POST /api/v1/oauth/apps", None),
    ("GET /api/v1/oauth/apps/{id}", Hidden),
    ("PATCH /api/v1/oauth/apps/{id}", Hidden),
    ("DELETE /api/v1/oauth/apps/{id}", Hidden),
    ("POST /api/v1/oauth/apps/{id}/secret", Hidden),
    ("GET /api/v1/oauth/authorizations", OwnList),
    ("DELETE /api/v1/oauth/authorizations/{app_id}", Hidden),
    ("GET /api/v1/oauth/authorize", None),
    ("POST /api/v1/oauth/authorize", None),
    ("POST /api/v1/oauth/token", None),
    ("POST /api/v1/oauth/token/revoke", None),
    ("POST /api/v1/oauth/introspect", None),
    ("GET /.well-known/oauth-authorization-server", None),
    ("GET /api/v1/containers/{id}/terminals", Container),
    ("DELETE /api/v1/containers/{id}/terminals/{name}", Container),
    ("POST /api/v1/ws-tickets", None),
    ("GET /api/v1/events", Endless),
    ("GET /ws/events", Endless),
    ("GET /ws/jobs/{job_id}", Hidden),
    ("GET /ws/terminal/{container_id}", Container),
];

fn name(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.verb.as_str(), endpoint.path)
}

/// The route's address with that in place of its parameters.
fn path(endpoint: &Endpoint, id: &str) -> String {
    let mut path = endpoint.path.to_owned();
    while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
        path.replace_range(from..=to, id);
    }
    path
}

async fn ask(client: &Client, endpoint: &Endpoint, id: &str) -> Reply {
    if endpoint.surface == Surface::Ws {
        return client.refused(&path(endpoint, id)).await;
    }
    let request = client.request(endpoint.verb.as_str(), &path(endpoint, id));
    let request = match (endpoint.verb, endpoint.surface) {
        (Verb::Post, Surface::Page) => request.form(&[("x", "y")]),
        (Verb::Post | Verb::Patch, _) => request.json(&body_of(endpoint.path)),
        _ => request,
    };
    send(request).await
}

/// One that the rules allow.
fn body_of(path: &str) -> serde_json::Value {
    match path {
        "/api/v1/containers" => json!({ "hostname": "stranger" }),
        "/api/v1/containers/{id}/commands" => json!({ "command": "true" }),
        "/api/v1/containers/{id}/files/chmod" => json!({ "path": "/x", "mode": "0644" }),
        "/api/v1/images" => json!({ "name": "x", "source": "/nothing.tar" }),
        "/api/v1/admin/users" => json!({ "email": "x@example.org" }),
        _ => json!({ "name": "x" }),
    }
}

async fn api(server: &mut Server) {
    let nobody = server.anonymous();
    let garbage = nobody.bearer("hzel_000000000000000000000000000000000000");
    let session = server.sign_in(ADMIN).await;
    let stranger = server.user("stranger@example.org");
    let owned = Owned::make(server).await;
    // Of a scope that no route has: what it lacks is refused everywhere.
    let narrow = nobody.bearer(&server.token_of(ADMIN, &["--scopes", "networks"]));

    let application = crate::oauth::token_of(server, ADMIN, "").await;
    let application = nobody.bearer(&application);

    for endpoint in api_routes().chain(sockets()) {
        let route = name(endpoint);
        let expected = EXPECTED.iter().find(|(known, _)| *known == route);
        let Some((_, expected)) = expected else {
            panic!("{route} has no row in EXPECTED");
        };
        let id = owned.of(endpoint.path);
        if endpoint.access == Access::Anyone {
            let reply = ask(&nobody, endpoint, id).await;
            assert!(!matches!(reply.status, 401 | 403), "{route}: {reply:?}");
            continue;
        }
        for client in [&nobody, &garbage] {
            let reply = ask(client, endpoint, id).await;
            reply
                .is(401, "UNAUTHORIZED")
                .says("Authentication required");
        }
        // A bad token decides, though a good session comes with it.
        let both = session.writing().bearer("nonsense");
        ask(&both, endpoint, id).await.is(401, "UNAUTHORIZED");
        if endpoint.verb != Verb::Get {
            for client in [
                session.client.clone(),
                session.client.with("x-csrf-token", "x"),
                session
                    .writing()
                    .with("origin", "https://elsewhere.example"),
                session.writing().with("sec-fetch-site", "cross-site"),
            ] {
                let reply = ask(&client, endpoint, id).await;
                reply
                    .is(403, "CSRF_REJECTED")
                    .says("A valid CSRF token is required for this request");
            }
        }
        if endpoint.surface == Surface::Ws {
            for client in [
                session.client.clone(),
                session.client.with("origin", "https://elsewhere.example"),
            ] {
                ask(&client, endpoint, id).await.is(403, "CSRF_REJECTED");
            }
            // In the query a credential decides too, and is never tried for less.
            let ours = session.client.with("origin", server.url.as_str());
            let bad = format!("{}?token=hzws_nonsense", path(endpoint, id));
            ours.refused(&bad).await.is(401, "UNAUTHORIZED");
        }
        // An application is nobody's session, and no administrator.
        if endpoint.access != Access::Any {
            let reply = ask(&application, endpoint, id).await;
            reply
                .is(403, "FORBIDDEN")
                .says("This endpoint is not accessible via OAuth application tokens");
        } else if *expected == AdminOnly {
            ask(&application, endpoint, id).await.is(403, "FORBIDDEN");
        }
        if let Some(scope) = endpoint.scope {
            let reply = ask(&narrow, endpoint, id).await;
            reply.is(403, "FORBIDDEN");
            assert!(reply.message().contains(scope.as_str()), "{reply:?}");
        }
        if endpoint.access == Access::Session {
            ask(&server.admin(), endpoint, id)
                .await
                .is(403, "FORBIDDEN");
        }
        let by_token = endpoint.access != Access::Session;
        match expected {
            AdminOnly | Container => {
                ask(&stranger, endpoint, id).await.is(403, "FORBIDDEN");
            }
            Hidden if by_token => {
                let reply = ask(&stranger, endpoint, id).await;
                assert_eq!(reply.status, 404, "{route}: {reply:?}");
            }
            OwnList if by_token => {
                let reply = ask(&stranger, endpoint, id).await;
                assert!(!reply.text.contains(id), "{route}: {reply:?}");
            }
            Hidden | OwnList | Endless | None => {}
        }
    }
    let other = server.sign_in("stranger@example.org").await;
    let reply = other
        .writing()
        .delete(&format!("/api/v1/auth/sessions/{}", owned.session))
        .await;
    reply.is(404, "NOT_FOUND");
    assert_eq!(session.client.get("/api/v1/auth/session").await.status, 200);
    for (route, _) in EXPECTED {
        assert!(
            api_routes().chain(sockets()).any(|e| name(e) == *route),
            "{route} is served no more"
        );
    }
}

/// Ids of things of the administrator's.
struct Owned {
    container: String,
    command: String,
    token: String,
    session: String,
    app: String,
}

impl Owned {
    async fn make(server: &Server) -> Self {
        let admin = server.admin();
        let container = crate::containers::running(server, "owned").await;
        let made = admin
            .post(
                &format!("/api/v1/containers/{container}/commands"),
                json!({ "command": "true" }),
            )
            .await;
        let session = server.sign_in(ADMIN).await;
        let tokens = admin.get("/api/v1/tokens").await;
        let app = crate::oauth::App::register(server, &admin, crate::oauth::CALLBACK).await;
        Self {
            container,
            command: made.str("id"),
            token: tokens.data()[0]["id"].as_str().expect("an id").to_owned(),
            session: session.reply.data()["session"]["session_id"]
                .as_str()
                .expect("an id")
                .to_owned(),
            app: app.id,
        }
    }

    fn of(&self, path: &str) -> &str {
        if path.contains("/commands/{") || path.contains("/jobs/{") {
            &self.command
        } else if path.contains("/tokens") {
            &self.token
        } else if path.contains("/sessions") {
            &self.session
        } else if path.contains("/oauth/") {
            &self.app
        } else if path.contains("/images") {
            "nothing"
        } else {
            &self.container
        }
    }
}

/// Pages lead strangers to the sign-in, and take no form without its token.
async fn pages(server: &mut Server) {
    let nobody = server.anonymous();
    let session = server.sign_in(ADMIN).await;
    let id = "00000000-0000-7000-8000-000000000000";
    for endpoint in page_routes() {
        let route = name(endpoint);
        let public = endpoint.access == Access::Anyone;
        let reply = ask(&nobody, endpoint, id).await;
        if !public {
            assert_eq!(reply.status, 303, "{route}: {reply:?}");
            assert!(reply.header("location").starts_with("/login"), "{route}");
            let reply = ask(&nobody.with("accept", "application/json"), endpoint, id).await;
            reply.is(401, "UNAUTHORIZED");
        }
        if endpoint.verb == Verb::Get {
            let reply = ask(&session.client, endpoint, id).await;
            assert!(
                matches!(reply.status, 200 | 303 | 404)
                    // It was asked nothing.
                    || (reply.status, endpoint.path) == (400, "/oauth/consent"),
                "{route}: {reply:?}"
            );
        } else {
            let reply = ask(&session.client, endpoint, id).await;
            assert_eq!(reply.status, 403, "{route}: {reply:?}");
            if public {
                assert_eq!(ask(&nobody, endpoint, id).await.status, 403, "{route}");
            }
        }
    }
}
