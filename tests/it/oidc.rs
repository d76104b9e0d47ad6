//! Signing in with OpenID Connect: through a certified provider and its own forms, and with one that
//! lies.

use std::sync::Arc;

use reqwest::cookie::{CookieStore, Jar};
use serde_json::json;

use crate::harness::node::Node;
use crate::harness::{ADMIN, Client, Kind, Options, Server, free_port};

const SECRET: &str = "the-client-secret-of-the-tests";
const AUTHORIZE: &str = "/api/v1/auth/oidc/authorize";

on_both!(without_a_provider);
on_both_by_hand!(through_a_provider, with_a_liar);

/// A browser with its cookies, that is led from place to place.
struct Browser {
    http: reqwest::Client,
    jar: Arc<Jar>,
}

/// Where a browser ended up.
#[derive(Debug)]
struct Page {
    url: reqwest::Url,
    status: u16,
    text: String,
}

impl Browser {
    fn new() -> Self {
        let _earlier = rustls::crypto::ring::default_provider().install_default();
        let jar = Arc::new(Jar::default());
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .cookie_provider(Arc::clone(&jar))
            .no_proxy()
            .build()
            .expect("a client");
        Self { http, jar }
    }

    async fn step(&self, request: reqwest::RequestBuilder) -> (Page, Option<reqwest::Url>) {
        let request = request.header("accept", "text/html");
        let answer = request.send().await.expect("an answer");
        let url = answer.url().clone();
        let to = answer
            .headers()
            .get("location")
            .map(|v| v.to_str().unwrap());
        let to = to.map(|to| url.join(to).expect("an address"));
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a page");
        (Page { url, status, text }, to)
    }

    /// Follows until there is a page.
    async fn follow(&self, mut request: reqwest::RequestBuilder) -> Page {
        for _ in 0..20 {
            let (page, to) = self.step(request).await;
            match to {
                Some(to) => request = self.http.get(to),
                None => return page,
            }
        }
        panic!("it leads nowhere");
    }

    /// Follows until a place whose address has `part` in it is to be asked for.
    async fn follow_to(&self, mut request: reqwest::RequestBuilder, part: &str) -> reqwest::Url {
        for _ in 0..20 {
            let (page, to) = self.step(request).await;
            let to = to.unwrap_or_else(|| panic!("it ends at {page:?}"));
            if to.as_str().contains(part) {
                return to;
            }
            request = self.http.get(to);
        }
        panic!("it leads nowhere");
    }

    async fn get(&self, url: impl reqwest::IntoUrl) -> Page {
        self.follow(self.http.get(url)).await
    }

    /// Fills the provider's form for signing in, and that for consent where it comes.
    async fn sign_in_as(&self, name: &str, page: Page, until: &str) -> reqwest::Url {
        assert!(page.text.contains("name=\"login\""), "{page:?}");
        let form = [("prompt", "login"), ("login", name), ("password", "any")];
        let mut request = self.http.post(page.url).form(&form);
        loop {
            let (page, to) = self.step(request).await;
            request = match to {
                Some(to) if to.as_str().contains(until) => return to,
                Some(to) => self.http.get(to),
                None => {
                    assert!(page.text.contains("value=\"consent\""), "{page:?}");
                    self.http.post(page.url).form(&[("prompt", "consent")])
                }
            };
        }
    }

    /// Its session here, as the API sees it.
    fn client(&self, server: &Server) -> Client {
        let url = server.url.parse().expect("an address");
        let cookies = self.jar.cookies(&url).expect("cookies");
        server
            .anonymous()
            .with("cookie", cookies.to_str().expect("text"))
    }
}

fn configured(issuer: &str) -> Options {
    Options::with("HZEL_OIDC_ISSUER", issuer)
        .and("HZEL_OIDC_CLIENT_ID", "hzel")
        .and("HZEL_OIDC_CLIENT_SECRET", SECRET)
        .and("HZEL_OIDC_NAME", "Example ID")
}

async fn without_a_provider(server: &mut Server) {
    let nobody = server.anonymous();
    for path in [AUTHORIZE, "/api/v1/auth/oidc/callback?state=x&code=y"] {
        let reply = nobody.get(path).await;
        reply.is(501, "NOT_IMPLEMENTED").says("OIDC is not enabled");
        let page = nobody.with("accept", "text/html").get(path).await;
        assert_eq!(page.status, 501);
        assert!(page.text.contains("OIDC is not enabled"), "{page:?}");
        assert!(page.text.starts_with("<!doctype html>"), "{page:?}");
    }
    let login = nobody.get("/login").await;
    assert!(!login.text.contains("oidc"), "{login:?}");
    let session = server.sign_in(ADMIN).await;
    assert_eq!(session.reply.data()["oidc_enabled"], json!(false));
    assert_eq!(
        session.reply.data()["session"]["auth_method"],
        json!("session")
    );
    let reply = session.writing().act("/api/v1/auth/oidc/link").await;
    reply.is(501, "NOT_IMPLEMENTED");
}

async fn through_a_provider(kind: Kind) {
    let port = free_port();
    let issuer = format!("http://127.0.0.1:{port}");
    let options = configured(&issuer).and("HZEL_OIDC_ADMIN_CLAIM", "groups=hzel-admins");
    let mut server = Server::start(kind, options).await;
    server.secret(SECRET);
    // Until it is there, that is said, and signing in with a password works.
    let reply = server.anonymous().get(AUTHORIZE).await;
    reply.is(503, "PROVIDER_UNAVAILABLE");
    assert!(!reply.header("retry-after").is_empty());
    let callback = format!("{}/api/v1/auth/oidc/callback", server.url);
    let provider = Node::start("provider.mjs", port, &[&callback]);

    let login = server.anonymous().get("/login?next=/tokens").await;
    assert!(login.text.contains("Sign in with Example ID"), "{login:?}");
    assert!(login.text.contains(&format!("{AUTHORIZE}?next=%2Ftokens")));

    first_sign_in(&server).await;
    a_way_in_is_used_once_and_by_its_browser(&server).await;
    next_stays_here(&server).await;
    addresses_are_not_taken_over(&server).await;
    linking(&server).await;
    roles_follow_the_claim(&server).await;

    // The provider's keys change, and the next sign-in still works.
    Browser::new().get(format!("{}/rotate", provider.url)).await;
    signed_in(&server, "anna").await;
    server.finish().await;
}

/// All the way through; the browser is then signed in.
async fn signed_in(server: &Server, name: &str) -> Browser {
    let browser = Browser::new();
    let page = browser.get(format!("{}{AUTHORIZE}", server.url)).await;
    let back = browser.sign_in_as(name, page, "/oidc/callback").await;
    let (page, to) = browser.step(browser.http.get(back)).await;
    assert_eq!(page.status, 302, "{page:?}");
    assert_eq!(to.expect("a place").as_str(), format!("{}/", server.url));
    browser
}

async fn first_sign_in(server: &Server) {
    let browser = Browser::new();
    let start = format!("{}{AUTHORIZE}?next=%2Ftokens", server.url);
    let (page, to) = browser.step(browser.http.get(&start)).await;
    assert_eq!(page.status, 302, "{page:?}");
    let to = to.expect("the provider");
    let query: std::collections::HashMap<_, _> = to.query_pairs().into_owned().collect();
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["code_challenge_method"], "S256");
    for name in ["state", "nonce", "code_challenge"] {
        assert!(query[name].len() >= 43, "{name}: {to}");
    }
    let page = browser.get(to).await;
    let back = browser.sign_in_as("anna", page, "/oidc/callback").await;
    for (name, value) in back.query_pairs() {
        if matches!(name.as_ref(), "code" | "state") {
            server.secret(&value);
        }
    }
    let (page, to) = browser.step(browser.http.get(back.clone())).await;
    assert_eq!(
        (page.status, to.unwrap().path()),
        (302, "/tokens"),
        "{page:?}"
    );

    let client = browser.client(server);
    let me = client.get("/api/v1/auth/me").await;
    assert_eq!(me.str("email"), "anna@example.org");
    assert_eq!(me.str("display_name"), "The anna");
    assert_eq!(
        (me.str("role"), me.str("auth_method")),
        ("user".into(), "oidc".into())
    );
    let session = client.get("/api/v1/auth/session").await;
    assert_eq!(session.data()["session"]["auth_method"], json!("oidc"));
    assert_eq!(session.data()["oidc_enabled"], json!(true));

    // The same answer again is refused, and the session stays.
    let (page, _) = browser.step(browser.http.get(back)).await;
    assert_eq!(page.status, 400, "{page:?}");
    assert_eq!(client.get("/api/v1/auth/me").await.status, 200);

    // The next time it is the same account, and the provider asks nothing.
    let again = signed_in(server, "anna").await;
    let other = again.client(server).get("/api/v1/auth/me").await;
    assert_eq!(other.str("user_id"), me.str("user_id"));
    let users = server.admin().get("/api/v1/admin/users?q=anna").await;
    assert_eq!(users.data().as_array().map(Vec::len), Some(1));
    assert_eq!(users.data()[0]["oidc_linked"], json!(true));
    assert_eq!(users.data()[0]["has_password"], json!(false));

    // Who is disabled does not come in.
    let id = me.str("user_id");
    let path = format!("/api/v1/admin/users/{id}");
    patch(&server.admin(), &path, json!({ "status": "disabled" })).await;
    client.get("/api/v1/auth/me").await.is(401, "UNAUTHORIZED");
    let browser = Browser::new();
    let page = browser.get(format!("{}{AUTHORIZE}", server.url)).await;
    let back = browser.sign_in_as("anna", page, "/oidc/callback").await;
    let page = browser.get(back).await;
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.text.contains("disabled"), "{page:?}");
    patch(&server.admin(), &path, json!({ "status": "active" })).await;
}

async fn patch(client: &Client, path: &str, body: serde_json::Value) {
    let reply = crate::harness::client::send(client.request("PATCH", path).json(&body)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

async fn a_way_in_is_used_once_and_by_its_browser(server: &Server) {
    let nobody = server.anonymous();
    let callback = "/api/v1/auth/oidc/callback";
    for query in ["", "?code=x", "?state=&code=x", "?state=nothing&code=x"] {
        let reply = nobody.get(&format!("{callback}{query}")).await;
        reply.is(400, "VALIDATION_FAILED");
        assert!(reply.message().starts_with("state "), "{reply:?}");
    }
    // What one browser began, another cannot end.
    let browser = Browser::new();
    let page = browser.get(format!("{}{AUTHORIZE}", server.url)).await;
    let back = browser.sign_in_as("eve", page, "/oidc/callback").await;
    let path = format!("{}?{}", back.path(), back.query().unwrap());
    nobody.get(&path).await.is(400, "VALIDATION_FAILED");
    let stranger = nobody.with("cookie", &format!("hzel_oidc={}", "x".repeat(43)));
    stranger.get(&path).await.is(400, "VALIDATION_FAILED");
    // Many at once: one comes in.
    let asked = (0..8).map(|_| browser.step(browser.http.get(back.clone())));
    let answers = futures_util::future::join_all(asked).await;
    let count = |status: u16| answers.iter().filter(|(p, _)| p.status == status).count();
    assert_eq!((count(302), count(400)), (1, 7), "{answers:?}");

    // Who says no at the provider is told so.
    let browser = Browser::new();
    let page = browser.get(format!("{}{AUTHORIZE}", server.url)).await;
    let abort = page
        .url
        .join(&format!("{}/abort", page.url.path()))
        .unwrap();
    let page = browser.get(abort).await;
    assert_eq!(page.status, 400, "{page:?}");
    assert!(page.text.contains("cancelled at the provider"), "{page:?}");
}

async fn next_stays_here(server: &Server) {
    for next in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "javascript:alert(1)",
    ] {
        let browser = Browser::new();
        let mut start: reqwest::Url = format!("{}{AUTHORIZE}", server.url).parse().unwrap();
        start.query_pairs_mut().append_pair("next", next);
        if next.contains('%') {
            start.set_query(Some(&format!("next={next}")));
        }
        let page = browser.get(start).await;
        let back = browser.sign_in_as("nina", page, "/oidc/callback").await;
        let (_, to) = browser.step(browser.http.get(back)).await;
        assert_eq!(to.unwrap().as_str(), format!("{}/", server.url), "{next}");
    }
}

async fn addresses_are_not_taken_over(server: &Server) {
    // Verified or not: a local account is never entered by its address.
    server.add_user("local@example.org", "user");
    let browser = Browser::new();
    let page = browser.get(format!("{}{AUTHORIZE}", server.url)).await;
    let back = browser.sign_in_as("local", page, "/oidc/callback").await;
    let page = browser.get(back).await;
    assert_eq!(page.status, 409, "{page:?}");
    assert!(page.text.contains("profile page"), "{page:?}");
    // One that the provider has not verified is not used at all.
    server.add_user("unsure@example.org", "user");
    for name in ["unsure", "unsure-too"] {
        let browser = signed_in(server, name).await;
        let me = browser.client(server).get("/api/v1/auth/me").await;
        assert!(me.str("email").ends_with("@oidc.invalid"), "{me:?}");
    }
}

async fn linking(server: &Server) {
    let browser = Browser::new();
    let session = server.sign_in("local@example.org").await;
    let url = server.url.parse().expect("an address");
    browser.jar.add_cookie_str(&session.cookie, &url);
    let profile = browser.get(format!("{}/profile", server.url)).await;
    assert!(profile.text.contains("Connect an account"), "{profile:?}");
    let post = |path: &str| {
        browser
            .http
            .post(format!("{}{path}", server.url))
            .form(&[("csrf_token", &session.csrf)])
    };
    // The page goes on by itself, for a form may not redirect elsewhere.
    let (away, to) = browser.step(post("/profile/oidc/link")).await;
    assert_eq!((away.status, to), (200, None), "{away:?}");
    let from = away.text.find("content=\"0;url=").expect("a refresh") + 15;
    let to = away.text[from..].split('"').next().unwrap();
    let to = to.replace("&#38;", "&").replace("&amp;", "&");
    let page = browser.get(to).await;
    let back = browser.sign_in_as("local", page, "/oidc/callback").await;

    // Another browser, signed in as someone else, cannot end it in their name.
    let other = server.sign_in(ADMIN).await;
    let path = format!("{}?{}", back.path(), back.query().unwrap());
    let reply = other.client.get(&path).await;
    reply.is(400, "VALIDATION_FAILED");

    let to = browser.follow_to(browser.http.get(back), "/profile").await;
    assert!(to.as_str().ends_with("changed=linked"), "{to}");
    let client = server.anonymous().with("cookie", &session.cookie);
    let linked = client.get("/api/v1/auth/oidc/identities").await;
    assert_eq!(linked.data()[0]["subject"], json!("local"));
    let id = linked.data()[0]["id"].as_str().unwrap().to_owned();

    // Now it is a way into that account.
    let entered = signed_in(server, "local").await;
    let me = entered.client(server).get("/api/v1/auth/me").await;
    assert_eq!(me.str("email"), "local@example.org");

    // Not everyone's to link, nor to unlink.
    let stranger = signed_in(server, "zoe").await;
    let theirs = stranger.client(server);
    let csrf = theirs.get("/api/v1/auth/session").await;
    let csrf = csrf.data()["session"]["csrf_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let theirs = theirs.with("x-csrf-token", &csrf);
    let path = format!("/api/v1/auth/oidc/identities/{id}");
    theirs.delete(&path).await.is(404, "NOT_FOUND");
    let own = theirs.get("/api/v1/auth/oidc/identities").await;
    let own = own.data()[0]["id"].as_str().unwrap().to_owned();
    // Nothing else would be left to sign in with.
    let reply = theirs
        .delete(&format!("/api/v1/auth/oidc/identities/{own}"))
        .await;
    reply.is(409, "CONFLICT");

    let page = browser
        .follow(post(&format!("/profile/oidc/{id}/unlink")))
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text.contains("Disconnected"), "{page:?}");
    let linked = client.get("/api/v1/auth/oidc/identities").await;
    assert_eq!(linked.data(), &json!([]));
}

async fn roles_follow_the_claim(server: &Server) {
    let boss = signed_in(server, "boss").await;
    let me = boss.client(server).get("/api/v1/auth/me").await;
    assert_eq!(me.str("role"), "admin");
    // Made a user here, they are one until the next sign-in.
    let path = format!("/api/v1/admin/users/{}", me.str("user_id"));
    patch(&server.admin(), &path, json!({ "role": "user" })).await;
    let me = boss.client(server).get("/api/v1/auth/me").await;
    assert_eq!(me.str("role"), "user");
    let boss = signed_in(server, "boss").await;
    let me = boss.client(server).get("/api/v1/auth/me").await;
    assert_eq!(me.str("role"), "admin");
}

async fn with_a_liar(kind: Kind) {
    let liar = Node::start("liar.mjs", free_port(), &[]);
    let mut server = Server::start(kind, configured(&liar.url)).await;
    let browser = Browser::new();
    let lie = async |about: &str| {
        browser.get(format!("{}/lie?about={about}", liar.url)).await;
    };
    let come = async || {
        browser
            .get(format!("{}{AUTHORIZE}?next=/profile", server.url))
            .await
    };

    lie("discovery").await;
    assert_eq!(come().await.status, 503);
    for about in [
        "nonce",
        "audience",
        "parties",
        "expired",
        "issuer",
        "signature",
        "unsigned",
        "alg",
        "iss",
        "silent",
        "subject",
    ] {
        lie(about).await;
        let page = come().await;
        assert_eq!(page.status, 400, "{about}: {page:?}");
        assert!(page.text.contains("VALIDATION_FAILED"), "{about}: {page:?}");
    }
    let users = server.admin().get("/api/v1/admin/users").await;
    assert_eq!(users.data().as_array().map(Vec::len), Some(1), "{users:?}");
    lie("nothing").await;
    let page = come().await;
    assert_eq!(
        (page.status, page.url.path()),
        (200, "/profile"),
        "{page:?}"
    );
    assert!(page.text.contains("someone@example.org"), "{page:?}");
    server.finish().await;
}
