//! An application's user in a browser: sign in, consent, back to the application, whose own
//! redirect then leads to yet another host; with scripts, and with none.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::Browser;
use crate::harness::{Kind, Options, PASSWORD, Server, with_server};
use crate::oauth::{APPS, AUTHORIZE, Answer, App};

on_both_by_hand!(there_and_back);

/// A server that answers everything with a redirect, or with a page that says that it is the end.
async fn application(redirect: Option<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 8192];
            let read = stream.read(&mut bytes).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            if path.starts_with("/callback") {
                seen.lock().expect("nobody failed with it").push(path);
            }
            let (status, place) = match &redirect {
                Some(place) => ("302 Found", format!("Location: {place}\r\n")),
                None => ("200 OK", String::new()),
            };
            let body = "<p id=\"the-end\">the end</p>";
            let answer = format!(
                "HTTP/1.1 {status}\r\n{place}Content-Type: text/html\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            // A browser that has gone elsewhere is no fault.
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, asked)
}

async fn there_and_back(kind: Kind) {
    let options = Options {
        image: false,
        ..Options::with("HZEL_IMAGE", "/nothing/box.tar")
    };
    with_server(kind, options, async |server| {
        server.add_user("user@example.org", "user");
        for scripts in [true, false] {
            whole_way(server, scripts).await;
        }
    })
    .await;
}

async fn whole_way(server: &Server, scripts: bool) {
    let (end, _) = application(None).await;
    // Another host by name: a browser that held redirects to the form's page would stop here.
    let (port, asked) = application(Some(format!("http://localhost:{end}/"))).await;
    let uri = format!("http://127.0.0.1:{port}/callback");
    let app = App::register(server, &server.admin(), &uri).await;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs([
        ("client_id", app.client_id.as_str()),
        ("redirect_uri", &uri),
        ("response_type", "code"),
        ("state", "a \"b\" & c"),
        ("scope", "profile"),
    ]);
    let question = format!("{AUTHORIZE}?{}", query.finish());
    let last = || {
        let asked = asked.lock().expect("nobody failed with it");
        let answer = Answer::of(asked.last().expect("the application was called"));
        assert_eq!(answer.get("state"), Some("a \"b\" & c"));
        assert_eq!(answer.get("iss"), Some(server.url.as_str()));
        if let Some(code) = answer.get("code") {
            server.secret(code);
        }
        answer
    };

    let browser = Browser::open(&server.url, scripts).await;
    browser.go(&question).await;
    assert_eq!(browser.path().await, "/login");
    browser.type_in("#email", "user@example.org").await;
    browser.type_in("#password", PASSWORD).await;
    browser.click("#sign-in").await;
    browser.see("#consent", false).await;
    assert!(browser.source().await.contains("read your name, e-mail"));
    browser.click("#deny").await;
    browser.see("#the-end", false).await;
    assert_eq!(last().get("error"), Some("access_denied"));

    browser.go(&question).await;
    browser.click("#approve").await;
    browser.see("#the-end", false).await;
    let code = last().get("code").expect("a code").to_owned();
    let tokens = server
        .anonymous()
        .post(
            crate::oauth::TOKEN,
            crate::oauth::but(&app.with_code(&code), json!({ "code_verifier": null })),
        )
        .await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    crate::oauth::Tokens::of(server, &tokens.json);

    // Remembered, also where the sign-in comes between.
    browser.go(&question).await;
    browser.see("#the-end", false).await;
    browser.go("/authorizations").await;
    browser
        .driver
        .delete_all_cookies()
        .await
        .expect("no cookies");
    browser.go(&question).await;
    browser.type_in("#email", "user@example.org").await;
    browser.type_in("#password", PASSWORD).await;
    browser.click("#sign-in").await;
    browser.see("#the-end", false).await;
    assert!(last().get("code").is_some_and(|fresh| fresh != code));

    // Taken back on its page, it is asked again.
    browser.go("/authorizations").await;
    let row = format!("[data-app-id=\"{}\"]", app.id);
    browser
        .click(&format!("{row} [data-test=revoke-app]"))
        .await;
    browser.see(".nothing", false).await;
    browser.go(&question).await;
    browser.see("#approve", false).await;

    // The pages of a developer.
    browser.go("/apps").await;
    browser.type_in("#name", "From the page").await;
    browser
        .type_in("#redirect_uris", "http://evil.example/")
        .await;
    browser.click("#create-app").await;
    browser
        .see("#redirect_uris[aria-invalid=true]", false)
        .await;
    browser
        .type_in("#redirect_uris", "https://app.example.org/callback")
        .await;
    browser.click("#create-app").await;
    let secret = browser.find("#secret").await.text().await.expect("text");
    assert!(secret.starts_with("hzcs_"), "{secret}");
    server.secret(&secret);
    browser.go("/apps").await;
    browser.click("#apps .item-title a").await;
    browser.see("#edit-app", false).await;
    assert!(!browser.source().await.contains(&secret));
    browser.click("#rotate-secret").await;
    let fresh = browser.find("#secret").await.text().await.expect("text");
    assert_ne!(fresh, secret);
    server.secret(&fresh);
    browser.go("/apps").await;
    browser.click("#apps .item-title a").await;
    browser.click("#delete-app").await;
    browser.see("#new-app", false).await;
    assert!(!browser.source().await.contains("id=\"apps\""));
    browser.close().await;
    server
        .admin()
        .delete(&format!("{APPS}/{}", app.id))
        .await
        .data();
}
