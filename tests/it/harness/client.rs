//! A client that holds every answer against the contract's form: the request id, the envelope, and
//! nothing internal in an error.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// Words that only the inside of the server knows.
const INTERNALS: &[&str] = &[
    "diesel",
    "sqlite",
    "SELECT ",
    "INSERT ",
    "src/",
    ".rs:",
    "RUST_",
    "libpq",
    "overlay",
    "/run/hzel",
    "native/",
];

/// Asks with one credential.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    headers: Vec<(&'static str, String)>,
}

/// A signed-in browser, as the API sees it.
#[derive(Clone)]
pub struct Session {
    pub client: Client,
    /// Name and value.
    pub cookie: String,
    pub csrf: String,
    pub reply: Reply,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Reply {
    /// The payload of a success.
    #[track_caller]
    pub fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{self:?}");
        &self.json["data"]
    }

    #[track_caller]
    pub fn str(&self, field: &str) -> String {
        let value = &self.data()[field];
        value
            .as_str()
            .unwrap_or_else(|| panic!("{field}: {value}"))
            .to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }

    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or("")
    }

    pub fn message(&self) -> &str {
        self.json["error"]["message"].as_str().unwrap_or("")
    }

    /// That it is this error.
    #[track_caller]
    pub fn is(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        self
    }

    /// That its sentence is this one.
    #[track_caller]
    pub fn says(&self, message: &str) -> &Self {
        assert_eq!(self.message(), message);
        self
    }
}

impl Client {
    pub fn new(url: &str) -> Self {
        // reqwest asks for it even where only http is spoken; who came first has done it.
        let _earlier = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            http,
            url: url.to_owned(),
            headers: Vec::new(),
        }
    }

    /// With one more header on every request.
    #[must_use]
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name, value.to_owned()));
        other
    }

    #[must_use]
    pub fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        send(self.request("DELETE", path)).await
    }

    /// With no body.
    pub async fn act(&self, path: &str) -> Reply {
        send(self.request("POST", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request("POST", path).json(&body)).await
    }

    /// With a body that says it is JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.request("POST", path).body(body);
        send(request.header("content-type", "application/json")).await
    }

    pub async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        send(self.request("POST", path).form(fields)).await
    }

    pub async fn sign_in(&self, email: &str, password: &str) -> Session {
        let body = json!({ "email": email, "password": password });
        let reply = self.post("/api/v1/auth/login", body).await;
        let cookie = session_cookie(&reply).expect("a session's cookie");
        let csrf = reply.data()["session"]["csrf_token"].as_str();
        let csrf = csrf.expect("a CSRF token").to_owned();
        Session {
            client: self.with("cookie", &cookie),
            cookie,
            csrf,
            reply,
        }
    }
}

impl Session {
    /// With the token that state-changing requests need.
    pub fn writing(&self) -> Client {
        self.client.with("x-csrf-token", &self.csrf)
    }
}

/// Name and value of the session's cookie, where an answer sets one.
pub fn session_cookie(reply: &Reply) -> Option<String> {
    let cookies = reply.headers.get_all("set-cookie");
    let mut texts = cookies.iter().filter_map(|v| v.to_str().ok());
    let whole = texts.find(|text| text.contains("hzel_session="))?;
    whole.split(';').next().map(str::to_owned)
}

/// Sends it, and checks what holds for every answer.
pub async fn send(request: RequestBuilder) -> Reply {
    try_send(request).await.expect("an answer")
}

/// As [`send`], where the server may be killed in the middle: then there is no answer.
pub async fn try_send(request: RequestBuilder) -> Option<Reply> {
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    // A stream of events has no end to wait for.
    let endless = headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let text = if endless {
        String::new()
    } else {
        response.text().await.ok()?
    };
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    let reply = Reply {
        status: status.as_u16(),
        headers,
        text,
        json,
    };
    assert!(!reply.header("x-request-id").is_empty(), "no id: {reply:?}");
    if status.is_client_error() || status.is_server_error() {
        is_a_proper_error(status, &reply);
    }
    Some(reply)
}

#[track_caller]
fn is_a_proper_error(status: StatusCode, reply: &Reply) {
    for word in INTERNALS {
        assert!(!reply.text.contains(word), "{word} in {reply:?}");
    }
    if reply.header("content-type").starts_with("text/html") {
        let id = reply.header("x-request-id");
        // A form that is shown again with its faults is no error page.
        let is_form = reply.text.contains("aria-invalid");
        assert!(is_form || reply.text.contains(id), "no id in {reply:?}");
        return;
    }
    if reply.text.is_empty() && status == StatusCode::UNAUTHORIZED {
        panic!("an empty refusal: {reply:?}");
    }
    let names = |value: &Value| -> BTreeSet<String> {
        value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    assert_eq!(names(&reply.json), ["error".to_owned()].into(), "{reply:?}");
    let fields = ["code".to_owned(), "message".to_owned()].into();
    assert_eq!(names(&reply.json["error"]), fields, "{reply:?}");
    assert!(!reply.message().is_empty(), "{reply:?}");
}
