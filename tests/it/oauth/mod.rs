//! hzel as an OAuth 2.0 authorization server: applications, consent, tokens; and clients that
//! nobody here wrote.

mod apps;
mod authorize;
mod clients;
mod tokens;
mod validity;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::client::send;
use crate::harness::{Client, Kind, Options, Server, Session, with_server};

pub const APPS: &str = "/api/v1/oauth/apps";
pub const AUTHORIZE: &str = "/api/v1/oauth/authorize";
pub const TOKEN: &str = "/api/v1/oauth/token";
pub const ME: &str = "/api/v1/auth/me";
pub const CALLBACK: &str = "https://app.example.org/callback";
/// The example of RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// A server without an image: nothing here needs a container.
async fn without_image(kind: Kind, body: impl AsyncFnOnce(&mut Server)) {
    let options = Options {
        image: false,
        ..Options::with("HZEL_IMAGE", "/nothing/box.tar")
    };
    with_server(kind, options, body).await;
}

pub fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER.as_bytes()))
}

/// A registered application.
pub struct App {
    pub id: String,
    pub client_id: String,
    pub secret: Option<String>,
    pub redirect_uri: String,
}

impl App {
    pub async fn register(server: &Server, owner: &Client, redirect_uri: &str) -> Self {
        Self::make(server, owner, redirect_uri, false).await
    }

    pub async fn make(server: &Server, owner: &Client, redirect_uri: &str, public: bool) -> Self {
        let body = json!({
            "name": "Test app", "redirect_uris": [redirect_uri], "public": public,
        });
        let reply = owner.post(APPS, body).await;
        let secret = reply.data()["client_secret"].as_str().map(str::to_owned);
        if let Some(secret) = &secret {
            server.secret(secret);
        }
        Self {
            id: reply.str("id"),
            client_id: reply.str("client_id"),
            secret,
            redirect_uri: redirect_uri.to_owned(),
        }
    }

    /// The user allows it, through the API; answers what came back in the redirect.
    pub async fn authorize(&self, server: &Server, user: &Session, more: Value) -> Answer {
        let mut body = json!({
            "client_id": self.client_id, "redirect_uri": self.redirect_uri, "state": "s t&1",
            "code_challenge": challenge(), "approved": true,
        });
        merge(&mut body, more);
        let reply = user.writing().post(AUTHORIZE, body).await;
        let answer = Answer::of(&reply.str("redirect_url"));
        if let Some(code) = answer.get("code") {
            server.secret(code);
        }
        answer
    }

    /// What it sends for tokens.
    pub fn with_code(&self, code: &str) -> Value {
        let mut body = json!({
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER, "client_id": self.client_id,
        });
        if let Some(secret) = &self.secret {
            body["client_secret"] = json!(secret);
        }
        body
    }

    pub fn with_refresh(&self, token: &str) -> Value {
        let mut body = json!({
            "grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id,
        });
        if let Some(secret) = &self.secret {
            body["client_secret"] = json!(secret);
        }
        body
    }

    /// Tokens, by the whole way.
    pub async fn tokens(&self, server: &Server, user: &Session, scope: &str) -> Tokens {
        let answer = self
            .authorize(server, user, json!({ "scope": scope }))
            .await;
        let code = answer.get("code").expect("a code");
        let (status, body) = form(server, TOKEN, &self.with_code(code)).await;
        assert_eq!(status, 200, "{body}");
        Tokens::of(server, &body)
    }
}

/// A pair of tokens.
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    pub fn of(server: &Server, body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().expect("a token").to_owned();
        let (access, refresh) = (text("access_token"), text("refresh_token"));
        server.secret(&access);
        server.secret(&refresh);
        Self { access, refresh }
    }
}

/// The parameters of an address.
pub struct Answer {
    pub url: String,
    pairs: Vec<(String, String)>,
}

impl Answer {
    pub fn of(url: &str) -> Self {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        Self {
            url: url.to_owned(),
            pairs: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(n, _)| n == name);
        pair.map(|(_, value)| value.as_str())
    }
}

/// With the fields of `more` over those of `body`; null takes one away.
pub fn merge(body: &mut Value, more: Value) {
    let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) else {
        panic!("two objects");
    };
    for (name, value) in more {
        if value.is_null() {
            body.remove(&name);
        } else {
            body.insert(name, value);
        }
    }
}

/// A copy with the fields of `more` over it.
pub fn but(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    merge(&mut body, more);
    body
}

/// As RFC 6749 has it: a form, and its own kind of answers, so not the harness's way.
pub async fn form(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, body) = form_with(&server.anonymous(), path, body).await;
    (status, body)
}

pub async fn form_with(
    client: &Client,
    path: &str,
    body: &Value,
) -> (u16, reqwest::header::HeaderMap, Value) {
    let fields: Vec<(&String, &str)> = body
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, value)| (name, value.as_str().expect("a text")))
        .collect();
    let request = client.request("POST", path).form(&fields);
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    assert!(headers.contains_key("x-request-id"));
    assert_eq!(headers["cache-control"], "no-store");
    let body: Value = response.json().await.expect("JSON");
    if status != 200 {
        assert!(body["error"].is_string(), "{body}");
        assert!(body["error_description"].is_string(), "{body}");
        assert_eq!(
            body.as_object().map(serde_json::Map::len),
            Some(2),
            "{body}"
        );
    }
    (status, headers, body)
}

/// Whether a token is taken.
pub async fn works(server: &Server, access: &str) -> bool {
    match server.anonymous().bearer(access).get(ME).await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

/// An administrator's token of an application, for whoever tries what such a token may not.
pub async fn token_of(server: &Server, email: &str, scope: &str) -> String {
    let user = server.sign_in(email).await;
    let app = App::register(server, &server.admin(), CALLBACK).await;
    app.tokens(server, &user, scope).await.access
}

/// PATCH, which the harness has no need of elsewhere.
pub async fn patch(client: &Client, path: &str, body: Value) -> crate::harness::Reply {
    send(client.request("PATCH", path).json(&body)).await
}
