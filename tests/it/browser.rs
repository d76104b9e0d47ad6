//! The whole way of a person, in Debian's Chromium: with scripts, and with none.

mod consent;
mod files;
mod jobs;
mod terminal;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thirtyfour::prelude::*;

use crate::harness::{Kind, Options, PASSWORD, Server, free_port, with_server};

on_both_by_hand!(with_scripts, without_scripts);

const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// A browser with its driver; both end with it.
pub struct Browser {
    pub driver: WebDriver,
    port: u16,
    process: Child,
    url: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub async fn open(url: &str, scripts: bool) -> Self {
        let _earlier = rustls::crypto::ring::default_provider().install_default();
        let port = free_port();
        let process = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver; `bash .ci/setup` installs it");
        let profile = tempfile::tempdir().expect("a profile");
        let mut wanted = DesiredCapabilities::chrome();
        for flag in FLAGS {
            wanted.add_arg(flag).expect("a flag");
        }
        let folder = format!("--user-data-dir={}", profile.path().display());
        wanted.add_arg(&folder).expect("a flag");
        if !scripts {
            let off =
                serde_json::json!({ "profile.managed_default_content_settings.javascript": 2 });
            wanted
                .add_experimental_option("prefs", off)
                .expect("an option");
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let driver = loop {
            match WebDriver::new(format!("http://127.0.0.1:{port}"), wanted.clone()).await {
                Ok(driver) => break driver,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        Self {
            driver,
            port,
            process,
            url: url.to_owned(),
            _profile: profile,
        }
    }

    /// Gives it a device that makes and uses passkeys, and says yes to all.
    pub async fn plug_in_authenticator(&self) {
        let session = self.driver.handle().session_id();
        let path = format!("session/{session}/webauthn/authenticator");
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .post(format!("http://127.0.0.1:{}/{path}", self.port))
            .json(&serde_json::json!({
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": true,
                "hasUserVerification": true,
                "isUserVerified": true,
            }))
            .send()
            .await
            .expect("the driver's answer");
        assert_eq!(answer.status().as_u16(), 200);
    }

    pub async fn go(&self, path: &str) {
        self.driver
            .goto(format!("{}{path}", self.url))
            .await
            .expect("a page");
    }

    pub async fn path(&self) -> String {
        self.driver
            .current_url()
            .await
            .expect("an address")
            .path()
            .to_owned()
    }

    pub async fn source(&self) -> String {
        self.driver.source().await.expect("a page")
    }

    /// What a script answers on the page as it is.
    pub async fn script(&self, text: &str) -> serde_json::Value {
        let answer = self.driver.execute(text, Vec::new()).await;
        answer.expect("a script's answer").json().clone()
    }

    /// The first element of that kind, as soon as there is one.
    pub async fn find(&self, css: &str) -> WebElement {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(element) = self.driver.find(By::Css(css)).await {
                return element;
            }
            if Instant::now() > deadline {
                panic!(
                    "no {css} on {}:\n{}",
                    self.path().await,
                    self.source().await
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn type_in(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("an empty field");
        field.send_keys(text).await.expect("a field");
    }

    pub async fn click(&self, css: &str) {
        self.find(css)
            .await
            .click()
            .await
            .unwrap_or_else(|e| panic!("{css}: {e}"));
    }

    /// Waits for it; a page that does not renew itself is loaded again.
    pub async fn see(&self, css: &str, reload: bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.driver.find(By::Css(css)).await.is_err() {
            if Instant::now() > deadline {
                panic!(
                    "no {css} on {}:\n{}",
                    self.path().await,
                    self.source().await
                );
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            if reload {
                self.driver.refresh().await.expect("the page");
            }
        }
    }

    pub async fn close(mut self) {
        self.driver.clone().quit().await.expect("an end");
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended with `close`.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

async fn with_scripts(kind: Kind) {
    whole_way(kind, true).await;
}

async fn without_scripts(kind: Kind) {
    whole_way(kind, false).await;
}

async fn whole_way(kind: Kind, scripts: bool) {
    let options = Options {
        admin: false,
        ..Options::default()
    };
    with_server(kind, options, async |server| {
        let browser = Browser::open(&server.url, scripts).await;
        set_up(server, &browser).await;
        live(&browser, scripts).await;
        account(server, &browser).await;
        asked_again(server, &browser).await;
        if scripts {
            colours(&browser).await;
        }
        browser.close().await;
    })
    .await;
}

async fn set_up(server: &Server, browser: &Browser) {
    browser.go("/").await;
    assert_eq!(browser.path().await, "/setup");
    let log = server.log();
    let code = log
        .split("setup code: ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let code = code.expect("the code is in the log").trim();

    browser.type_in("#code", "WRONG-CODE").await;
    browser.type_in("#email", "first@example.org").await;
    browser.type_in("#display_name", "First Admin").await;
    browser.type_in("#password", PASSWORD).await;
    browser.click("#create-account").await;
    browser.see("#code[aria-invalid=true]", false).await;
    let kept = browser.find("#email").await.value().await.expect("a value");
    assert_eq!(
        kept.as_deref(),
        Some("first@example.org"),
        "what was typed is kept"
    );

    browser.type_in("#code", code).await;
    browser.type_in("#password", PASSWORD).await;
    browser.click("#create-account").await;
    browser.see("#create-first", false).await;
    assert_eq!(browser.path().await, "/");
    browser.go("/setup").await;
    assert_ne!(browser.path().await, "/nowhere");
}

async fn live(browser: &Browser, scripts: bool) {
    browser.go("/containers/new").await;
    browser.type_in("#hostname", "my-box").await;
    browser.click("#create").await;
    browser.see("#box-head[data-hostname=my-box]", false).await;
    let box_path = browser.path().await;
    browser.see("#box-head[data-state=running]", !scripts).await;
    assert!(
        browser
            .driver
            .title()
            .await
            .expect("a title")
            .contains("my-box")
    );

    browser.go(&format!("{box_path}/commands")).await;
    browser
        .type_in("#command", "echo hello from $(hostname) | tr a-z A-Z")
        .await;
    browser.click("#run").await;
    browser
        .see("#command-view[data-status=completed]", !scripts)
        .await;
    let shown = browser.find("#stdout").await.text().await.expect("text");
    assert_eq!(shown.trim(), "HELLO FROM MY-BOX");

    browser.go(&box_path).await;
    browser.click("[data-act=stop] button").await;
    browser.see("#box-head[data-state=stopped]", !scripts).await;
    browser.click("[data-act=start] button").await;
    browser.see("#box-head[data-state=running]", !scripts).await;
    browser.go("/").await;
    browser
        .see(".box-row[data-hostname=my-box][data-state=running]", false)
        .await;

    browser.go(&format!("{box_path}/settings")).await;
    browser.type_in("#confirm", "my-bo").await;
    if !scripts {
        browser.click("#delete").await;
        browser.see("#confirm[aria-invalid=true]", false).await;
        browser
            .find("#confirm")
            .await
            .clear()
            .await
            .expect("an empty field");
        browser
            .find("#confirm")
            .await
            .send_keys("my-bo")
            .await
            .expect("a field");
    }
    browser
        .find("#confirm")
        .await
        .send_keys("x")
        .await
        .expect("a field");
    browser.click("#delete").await;
    browser.see("#create-first", false).await;
    browser.see("#deleted", false).await;
    browser.go(&box_path).await;
    assert!(browser.source().await.contains("was not found"));
}

async fn account(server: &Server, browser: &Browser) {
    browser.go("/tokens").await;
    browser
        .type_in("#new-token [name=name]", "from the page")
        .await;
    browser.click("#create-token").await;
    let secret = browser.find("#secret").await.text().await.expect("text");
    server.secret(&secret);
    let me = server
        .anonymous()
        .bearer(&secret)
        .get("/api/v1/auth/me")
        .await;
    assert_eq!(me.data()["email"], "first@example.org");
    browser.go("/tokens").await;
    let again = browser.source().await;
    assert!(!again.contains(&secret), "a token is shown once");
    for path in [
        "/images",
        "/sessions",
        "/profile",
        "/activity",
        "/docs",
        "/styleguide",
    ] {
        browser.go(path).await;
        browser.see("main h1", false).await;
    }
    browser.go("/nothing").await;
    browser.see("main h1", false).await;
}

/// Half an hour later a form that wants the password is not there to be filled in for nothing.
async fn asked_again(server: &Server, browser: &Browser) {
    for (path, form) in [("/tokens", "#new-token"), ("/admin/users", "#new-user")] {
        browser.go(path).await;
        browser.see(form, false).await;
        server
            .database
            .execute("UPDATE sessions SET proved_at = '2020-01-01 00:00:00'")
            .expect("a row");
        browser.go(path).await;
        browser.see("[data-test=prove]", false).await;
        let forms = browser.driver.find(By::Css(form)).await;
        assert!(forms.is_err(), "{path}");
        browser.click("[data-test=prove] a").await;
        browser.type_in("#password", PASSWORD).await;
        browser.click("#confirm-password").await;
        browser.see(form, false).await;
        assert_eq!(browser.path().await, path);
    }
}

/// The buttons for the colours can be pressed again and again.
async fn colours(browser: &Browser) {
    browser.go("/images").await;
    for theme in ["dark", "light", "dark", "system", "light", "system"] {
        browser
            .click(&format!(".rail [data-theme-form] [value={theme}]"))
            .await;
        browser
            .see(&format!("html[data-theme={theme}]"), false)
            .await;
        // What disables a button does so a moment after it was pressed.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
