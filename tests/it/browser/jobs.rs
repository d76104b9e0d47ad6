//! Commands that are seen while they run, and lists that follow by themselves.

use std::time::Duration;

use serde_json::json;

use super::Browser;
use crate::containers::{CONTAINERS, exec, running};
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
    field.send_keys(thirtyfour::Key::Up).await.expect("a key");
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
    let script = async |text: &str| {
        let answer = browser.driver.execute(text, Vec::new()).await;
        answer.expect("a script's answer").json().clone()
    };
    script(
        "window.states = []; \
         document.addEventListener('hzel', ({ detail }) => window.states.push(detail.state)); \
         getSelection().selectAllChildren(document.getElementById('box-head'));",
    )
    .await;
    admin
        .act(&format!("{CONTAINERS}/{second}/start"))
        .await
        .data();
    eventually("the page hears of it", 20, async || {
        let heard = script("return window.states.includes('running')").await;
        heard.as_bool().filter(|heard| *heard)
    })
    .await;
    // The look comes a moment after the event.
    tokio::time::sleep(Duration::from_millis(300)).await;
    browser.see("#box-head[data-state=stopped]", false).await;
    script("getSelection().removeAllRanges()").await;
    browser.see("#box-head[data-state=running]", false).await;
}
