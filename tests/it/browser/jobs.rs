//! Commands that are seen while they run, and lists that follow by themselves.

use std::time::Duration;

use serde_json::json;
use thirtyfour::prelude::*;

use super::Browser;
use crate::containers::{CONTAINERS, exec, output, running};
use crate::harness::{ADMIN, Kind, Options, PASSWORD, Server, eventually, with_server};

on_both_by_hand!(streams);

async fn text(browser: &Browser, css: &str) -> String {
    browser.find(css).await.text().await.expect("text")
}

async fn shows(browser: &Browser, css: &str, wanted: &str) {
    eventually(&format!("{wanted:?} in {css}"), 30, async || {
        (text(browser, css).await.trim() == wanted).then_some(())
    })
    .await;
}

async fn sign_in(browser: &Browser) {
    browser.go("/login").await;
    browser.type_in("#email", ADMIN).await;
    browser.type_in("#password", PASSWORD).await;
    browser.click("form button.primary").await;
    browser.see("main h1", false).await;
}

async fn streams(kind: Kind) {
    with_server(kind, Options::default(), async |server| {
        let id = running(server, "streams").await;
        let browser = Browser::open(&server.url, true).await;
        sign_in(&browser).await;
        in_place(server, &browser, &id).await;
        sent_once(server, &browser, &id).await;
        by_events(server, &browser, &id).await;
        browser.close().await;
    })
    .await;
}

/// Run on the box's own page: the output comes while it runs, each stream in its place.
async fn in_place(server: &Server, browser: &Browser, id: &str) {
    browser.go(&format!("/containers/{id}/commands")).await;
    browser.see("html[data-events=open]", false).await;
    let line = r"printf '\033[31mone\033[0m\n'; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo two >&2; exit 4";
    browser.type_in("#command", line).await;
    browser.click("#run").await;
    shows(browser, "#live-run #stdout", "one").await;
    browser
        .see("#live-run #command-view[data-status=running]", false)
        .await;
    browser.see("#runs [data-status=running]", false).await;
    exec(server, id, "touch /tmp/go").await;
    browser
        .see("#live-run #command-view[data-status=failed]", false)
        .await;
    shows(browser, "#live-run #stdout", "one").await;
    shows(browser, "#live-run #stderr", "two").await;
    shows(browser, "#live-run [data-test=exit-code]", "exit 4").await;

    // It is in the field again by one key, and runs again by one click.
    let field = browser.find("#command").await;
    field.send_keys(Key::Up).await.expect("a key");
    // The latest on the list is the one that was run beside it.
    let value = field.value().await.expect("a value").unwrap_or_default();
    assert_eq!(value, line);
    field.clear().await.expect("an empty field");
    browser.type_in("#command", "sleep 600").await;
    browser.click("#run").await;
    browser.see("#live-run #cancel", false).await;
    browser
        .see("#live-run #command-view[data-status=running]", false)
        .await;
    browser.click("#live-run #cancel").await;
    browser
        .see("#live-run #command-view[data-status=cancelled]", false)
        .await;
    browser.click("#live-run #again").await;
    browser
        .see("#live-run #command-view[data-status=running]", false)
        .await;
    browser.click("#live-run #cancel").await;
    browser
        .see("#live-run #command-view[data-status=cancelled]", false)
        .await;

    // A page of its own, come to late.
    let path = format!("{CONTAINERS}/{id}/commands");
    let body = json!({ "command": "echo early; sleep 600" });
    let job = server.admin().post(&path, body).await.str("id");
    browser.go(&format!("/commands/{job}")).await;
    shows(browser, "#stdout", "early").await;
    server
        .admin()
        .act(&format!("/api/v1/commands/{job}/cancel"))
        .await
        .data();
    browser
        .see("#command-view[data-status=cancelled]", false)
        .await;
    shows(browser, "#stdout", "early").await;
}

/// A command whose answer is lost is not sent again, and what was typed stays.
async fn sent_once(server: &Server, browser: &Browser, id: &str) {
    browser.go(&format!("/containers/{id}/commands")).await;
    browser.see("html[data-events=open]", false).await;
    browser
        .script(
            "const { fetch } = window; \
             window.fetch = async (...all) => { \
                 const answer = await fetch(...all); \
                 if (all[1]?.method === 'POST') throw new TypeError('the line broke'); \
                 return answer; \
             };",
        )
        .await;
    let line = "echo once >> /root/sent";
    browser.type_in("#command", line).await;
    browser.click("#run").await;
    shows(
        browser,
        "#form-problem",
        "It is not known whether it ran; look at the list",
    )
    .await;
    let value = browser.find("#command").await.value().await;
    assert_eq!(value.expect("a value").as_deref(), Some(line));
    eventually("it is on the list", 20, async || {
        // In one go, for the list is renewed meanwhile.
        let script = "return document.querySelector('#runs .run-command')?.textContent";
        (browser.script(script).await == json!(line)).then_some(())
    })
    .await;
    let sent = output(server, id, "sleep 1; cat /root/sent").await;
    assert_eq!(sent, "once");

    // What is typed while a command is on its way is the next one's.
    browser.driver.refresh().await.expect("the page");
    browser
        .script(
            "const { fetch } = window; \
             window.fetch = async (...all) => { \
                 const answer = await fetch(...all); \
                 if (all[1]?.method === 'POST') await new Promise((done) => setTimeout(done, 2000)); \
                 return answer; \
             };",
        )
        .await;
    browser.type_in("#command", "echo first").await;
    browser.click("#run").await;
    browser.type_in("#command", "echo second").await;
    shows(browser, "#live-run #stdout", "first").await;
    let value = browser.find("#command").await.value().await;
    assert_eq!(value.expect("a value").as_deref(), Some("echo second"));
}

/// What another does is seen without a look.
async fn by_events(server: &Server, browser: &Browser, id: &str) {
    let admin = server.admin();
    browser.go("/").await;
    browser.see("html[data-events=open]", false).await;
    browser
        .see(".box-row[data-hostname=streams][data-state=running]", false)
        .await;
    admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    browser
        .see(".box-row[data-hostname=streams][data-state=stopped]", false)
        .await;
    let made = admin
        .post(CONTAINERS, json!({ "hostname": "second" }))
        .await;
    browser
        .see(".box-row[data-hostname=second][data-state=running]", false)
        .await;
    let second = made.str("id");
    browser.go(&format!("/containers/{second}")).await;
    browser.see("html[data-events=open]", false).await;
    admin
        .act(&format!("{CONTAINERS}/{second}/stop?force=true"))
        .await
        .data();
    browser.see("#box-head[data-state=stopped]", false).await;

    // What is marked stays marked, and so the look that an event asks for is put off; it is made up
    // for as soon as nothing is marked any more.
    browser.script(HEAR).await;
    browser
        .script("getSelection().selectAllChildren(document.getElementById('box-head'))")
        .await;
    admin
        .act(&format!("{CONTAINERS}/{second}/start"))
        .await
        .data();
    heard(browser, "running").await;
    // The look comes a moment after the event.
    tokio::time::sleep(Duration::from_millis(300)).await;
    browser.see("#box-head[data-state=stopped]", false).await;
    browser.script("getSelection().removeAllRanges()").await;
    browser.see("#box-head[data-state=running]", false).await;
    overtaken(server, browser, &second).await;
    listed(server, browser, &second).await;
}

/// Keeps the states that the page hears of.
const HEAR: &str = "window.states = []; \
    document.addEventListener('hzel', ({ detail }) => window.states.push(detail.state));";

async fn heard(browser: &Browser, state: &str) {
    eventually(&format!("the page hears of {state}"), 20, async || {
        let script = format!("return window.states.includes('{state}')");
        let heard = browser.script(&script).await;
        heard.as_bool().filter(|heard| *heard)
    })
    .await;
}

/// What happens while an answer is on its way, which does not tell of it yet, is asked for once
/// more. The box runs, and does so again in the end.
async fn overtaken(server: &Server, browser: &Browser, id: &str) {
    let admin = server.admin();
    browser.go(&format!("/containers/{id}")).await;
    browser.see("html[data-events=open]", false).await;
    browser.see("#box-head[data-state=running]", false).await;
    browser.script(HEAR).await;
    // The look that comes with the first word of events is over before answers are held back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    browser.see("#box-head:not(.htmx-request)", false).await;
    browser
        .script(
            "window.hold = 4000; \
             const { send } = XMLHttpRequest.prototype; \
             XMLHttpRequest.prototype.send = function (...all) { \
                 const load = this.onload; \
                 if (load) this.onload = (event) => setTimeout(() => load.call(this, event), window.hold); \
                 return send.apply(this, all); \
             };",
        )
        .await;
    admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    heard(browser, "stopped").await;
    browser.see("#box-head.htmx-request", false).await;
    admin.act(&format!("{CONTAINERS}/{id}/start")).await.data();
    heard(browser, "running").await;
    browser.see("#box-head[data-state=stopped]", false).await;
    browser.script("window.hold = 0").await;
    // By itself the page would believe the answer for longer.
    eventually("the later state", 8, async || {
        let css = "#box-head[data-state=running]";
        browser.driver.find(By::Css(css)).await.ok().map(|_| ())
    })
    .await;
}

/// The list is renewed under the focus, and tells of what is gone.
async fn listed(server: &Server, browser: &Browser, id: &str) {
    let admin = server.admin();
    browser.go("/").await;
    browser.see("html[data-events=open]", false).await;
    browser
        .see(".box-row[data-hostname=second][data-state=running]", false)
        .await;
    let focus = format!("document.getElementById('box-{id}').focus()");
    browser.script(&focus).await;
    admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    browser
        .see(".box-row[data-hostname=second][data-state=stopped]", false)
        .await;
    let focused = browser.script("return document.activeElement.id").await;
    assert_eq!(focused, json!(format!("box-{id}")));

    browser
        .script(
            "window.told = ''; \
             const toasts = document.getElementById('toasts'); \
             new MutationObserver(() => { window.told += toasts.textContent; }) \
                 .observe(toasts, { childList: true });",
        )
        .await;
    admin.delete(&format!("{CONTAINERS}/{id}")).await.data();
    eventually("the page tells of it", 60, async || {
        let told = browser.script("return window.told").await;
        let told = told.as_str().unwrap_or_default().to_owned();
        told.contains("second is deleted").then_some(())
    })
    .await;
    eventually("it is not listed", 20, async || {
        let row = By::Css(".box-row[data-hostname=second]");
        browser.driver.find(row).await.is_err().then_some(())
    })
    .await;
}
