//! A terminal in a browser: typing, a reload that finds the shell again, another shell, and a
//! container that stops and starts.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Browser;
use crate::containers::{output, running};
use crate::harness::{ADMIN, Kind, Options, PASSWORD, Server, eventually, with_server};

on_both_by_hand!(typing);

/// The key, as `WebDriver` has it.
const ENTER: char = '\u{e007}';

/// What the terminal shows.
const TEXT: &str = "const b = document.getElementById('terminal')?.term?.buffer.active; \
    return b ? [...Array(b.length).keys()].map((n) => b.getLine(n).translateToString(true)).join('\\n') : ''";

impl Browser {
    /// Waits until the terminal shows that.
    async fn shows(&self, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = self.driver.execute(TEXT, Vec::new()).await;
            let text = text.expect("a script's answer").json().clone();
            let text = text.as_str().unwrap_or_default().to_owned();
            if text.contains(wanted) {
                return text;
            }
            if Instant::now() > deadline {
                panic!("no {wanted} in:\n{text}\n{}", self.complaints().await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn keys(&self, keys: &str) {
        self.find(".xterm-helper-textarea")
            .await
            .send_keys(keys)
            .await
            .expect("a terminal");
    }

    /// What the browser's console has of warnings and errors.
    async fn complaints(&self) -> String {
        let session = self.driver.handle().session_id();
        let answer: Value = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .post(format!(
                "http://127.0.0.1:{}/session/{session}/se/log",
                self.port
            ))
            .json(&serde_json::json!({ "type": "browser" }))
            .send()
            .await
            .expect("the driver's answer")
            .json()
            .await
            .expect("JSON");
        answer["value"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .filter_map(|line| line["message"].as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

async fn typing(kind: Kind) {
    with_server(kind, Options::default(), async |server| {
        let id = running(server, "typing").await;
        let browser = Browser::open(&server.url, true).await;
        browser.go("/login").await;
        browser.type_in("#email", ADMIN).await;
        browser.type_in("#password", PASSWORD).await;
        browser.click("#sign-in").await;
        browser.see("#main", false).await;
        in_the_tab(server, &browser, &id).await;
        // Colours of single cells are styles too; the page's policy must not stop them.
        assert_eq!(browser.complaints().await, "");
        stop_and_start(server, &browser, &id).await;
        browser.close().await;
    })
    .await;
}

async fn in_the_tab(server: &Server, browser: &Browser, id: &str) {
    let path = format!("/containers/{id}/terminal");
    browser.go(&path).await;
    browser.see("#terminal[data-state=connected]", false).await;
    browser.keys(&format!("X=kept; echo hel''lo{ENTER}")).await;
    browser.shows("hello").await;
    browser
        .keys(&format!(
            "printf '\\033[38;2;1;200;3mgr''een\\033[0m\\n'{ENTER}"
        ))
        .await;
    browser.shows("green").await;
    // It is as large as it looks.
    browser
        .keys(&format!("stty size > /root/size{ENTER}"))
        .await;
    let size = eventually("the size", 20, async || {
        let size = output(server, id, "cat /root/size 2>/dev/null || true").await;
        (!size.is_empty() && size != "24 80").then_some(size)
    })
    .await;
    let shown = browser
        .driver
        .execute(
            "const t = document.getElementById('terminal').term; return `${t.rows} ${t.cols}`",
            Vec::new(),
        )
        .await
        .expect("a script's answer");
    assert_eq!(shown.json(), &Value::String(size));

    // A reload finds the shell again, with what it showed.
    browser.driver.refresh().await.expect("the page");
    browser.see("#terminal[data-state=connected]", false).await;
    browser.shows("hello").await;
    browser.keys(&format!("echo still $X{ENTER}")).await;
    let text = browser.shows("still kept").await;
    // What the program asked the terminal the first time was not answered again.
    assert!(!text.contains("[?1;2c"), "{text}");

    // A second shell, and back.
    browser.click("#term-shells summary").await;
    browser.see("#term-list li", false).await;
    browser.type_in("#term-new-name", "second").await;
    browser.click("#term-new button").await;
    browser.see("#terminal[data-state=connected]", false).await;
    browser.keys(&format!("echo X=[$X]{ENTER}")).await;
    browser.shows("X=[]").await;
    browser.click("#term-shells summary").await;
    browser.see("#term-list li:nth-child(2)", false).await;
    browser
        .click("#term-list li:first-child .term-attach")
        .await;
    browser.shows("still kept").await;

    // A file that is dropped while the line is down is told of, also when the line is there again.
    browser
        .script(
            "const state = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'readyState'); \
             Object.defineProperty(WebSocket.prototype, 'readyState', { configurable: true, get: () => 0 }); \
             const dataTransfer = new DataTransfer(); \
             dataTransfer.items.add(new File(['x'], 'lost.txt')); \
             document.getElementById('term-screen').dispatchEvent(new DragEvent('drop', { dataTransfer })); \
             Object.defineProperty(WebSocket.prototype, 'readyState', state);",
        )
        .await;
    let said = browser.find("#term-state").await.text().await;
    assert_eq!(
        said.expect("text"),
        "Not sent, for the terminal was not connected: lost.txt"
    );

    // A window of its own looks at the same shell.
    browser.go(&format!("{path}?bare=1&session=second")).await;
    browser.shows("X=[]").await;
    browser.go(&path).await;
    browser.shows("still kept").await;
}

async fn stop_and_start(server: &Server, browser: &Browser, id: &str) {
    let admin = server.admin();
    let stopped = admin.act(&format!("/api/v1/containers/{id}/stop")).await;
    assert_eq!(stopped.data()["state"], "stopped");
    browser.see("#terminal[data-state=stopped]", false).await;
    let note = browser.find("#term-note-text").await;
    assert_eq!(note.text().await.expect("text"), "The container stopped");
    browser.click("#term-start").await;
    browser.see("#terminal[data-state=connected]", false).await;
    browser.keys(&format!("echo an''ew{ENTER}")).await;
    browser.shows("anew").await;
}
