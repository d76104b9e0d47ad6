//! The files of a box, in a browser: with scripts by choosing files, without by the form alone.

use thirtyfour::prelude::*;

use super::Browser;
use crate::containers::{CONTAINERS, output, running};
use crate::harness::{ADMIN, Kind, Options, PASSWORD, Server, with_server};

on_both_by_hand!(with_scripts, without_scripts);

async fn with_scripts(kind: Kind) {
    whole_way(kind, true).await;
}

async fn without_scripts(kind: Kind) {
    whole_way(kind, false).await;
}

async fn whole_way(kind: Kind, scripts: bool) {
    with_server(kind, Options::default(), async |server| {
        let id = running(server, "my-files").await;
        let browser = Browser::open(&server.url, scripts).await;
        browser.go("/login").await;
        browser.type_in("#email", ADMIN).await;
        browser.type_in("#password", PASSWORD).await;
        browser.click("form.card button").await;
        browser.see("#boxes", false).await;
        walk(server, &browser, &id, scripts).await;
        browser.close().await;
    })
    .await;
}

async fn walk(server: &Server, browser: &Browser, id: &str, scripts: bool) {
    browser.go(&format!("/containers/{id}")).await;
    let tab = browser.driver.find(By::LinkText("Files")).await;
    tab.expect("the tab").click().await.expect("a click");
    browser
        .see("tr[data-name=etc][data-kind=directory]", false)
        .await;
    browser
        .go(&format!("/containers/{id}/files?path=/srv"))
        .await;
    browser.see("[data-test=empty]", false).await;

    // A folder; its name twice is told beside the field.
    let make = async |name: &str| {
        browser.click("#new-folder").await;
        browser.type_in("#name", name).await;
        browser.click("#make-folder").await;
    };
    make("stuff").await;
    browser.see("tr[data-name=stuff]", false).await;
    make("stuff").await;
    browser.see("#form-problem", false).await;
    browser.click("tr[data-name=stuff] .row-link").await;
    browser.see("[data-test=empty]", false).await;

    // Two files, chosen at once.
    let one = server.scratch().join("one.txt");
    let two = server.scratch().join("zwei ä.bin");
    std::fs::write(&one, "good day\n").expect("a file");
    std::fs::write(&two, vec![7_u8; 3 << 20]).expect("a file");
    let field = browser.find("#file").await;
    let chosen = format!("{}\n{}", one.display(), two.display());
    field.send_keys(chosen).await.expect("files");
    if !scripts {
        browser.click("#send").await;
    }
    browser.see("tr[data-name='one.txt']", false).await;
    browser.see("tr[data-name='zwei ä.bin']", false).await;
    let inside = output(
        server,
        id,
        "cd /srv/stuff && cat one.txt && stat -c '%s %u %a' zwei*",
    )
    .await;
    assert_eq!(inside, "good day\n3145728 0 644");

    if scripts {
        while_typing(browser, &one).await;
    }

    // Seen, and fetched with the browser's own cookie.
    browser.click("tr[data-name='one.txt'] .row-link").await;
    let text = browser.find("#text").await.text().await.expect("text");
    assert_eq!(text.trim(), "good day");
    let link = browser.find("#download").await;
    let href = link.attr("href").await.expect("an attribute").expect("one");
    let cookies = browser.driver.get_all_cookies().await.expect("cookies");
    let cookie = cookies
        .iter()
        .find(|c| c.name == "hzel_session")
        .expect("it");
    server.secret(&cookie.value);
    let cookie = format!("hzel_session={}", cookie.value);
    let fetched = server.anonymous().with("cookie", &cookie).get(&href).await;
    assert_eq!((fetched.status, fetched.text.as_str()), (200, "good day\n"));
    assert_eq!(
        fetched.header("content-disposition"),
        "attachment; filename=\"one.txt\""
    );

    // Renamed, its mode set, deleted.
    let path = format!("/containers/{id}/files?path=/srv/stuff");
    browser.go(&path).await;
    let row = "tr[data-name='one.txt']";
    let open_menu = async |row: &str| browser.click(&format!("{row} summary")).await;
    open_menu(row).await;
    browser
        .type_in(&format!("{row} [name=to]"), "first.txt")
        .await;
    browser.click(&format!("{row} [data-test=move]")).await;
    let row = "tr[data-name='first.txt']";
    browser.see(row, false).await;
    open_menu(row).await;
    browser.type_in(&format!("{row} [name=mode]"), "0600").await;
    browser.click(&format!("{row} [data-test=chmod]")).await;
    browser
        .see(&format!("{row} code[title='0600']"), false)
        .await;
    open_menu(row).await;
    browser.click(&format!("{row} [data-test=delete]")).await;
    browser.see("tr[data-name='zwei ä.bin']", false).await;
    assert!(browser.driver.find(By::Css(row)).await.is_err());

    // A directory with something in it wants more than a click.
    browser
        .go(&format!("/containers/{id}/files?path=/srv"))
        .await;
    let row = "tr[data-name=stuff]";
    open_menu(row).await;
    browser.click(&format!("{row} [data-test=delete]")).await;
    browser.see("#form-problem", false).await;
    browser.click(&format!("{row} [name=recursive]")).await;
    browser.click(&format!("{row} [data-test=delete]")).await;
    browser.see("[data-test=empty]", false).await;
    assert_eq!(output(server, id, "ls /srv | wc -l").await, "0");

    browser
        .go(&format!("/containers/{id}/files?path=/no/such"))
        .await;
    browser.see("#form-problem", false).await;
    let admin = server.admin();
    admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    browser.go(&format!("/containers/{id}/files")).await;
    browser.see(".nothing", false).await;
}

/// An upload that ends takes nothing from someone who types; one that is too large is not sent.
async fn while_typing(browser: &Browser, file: &std::path::Path) {
    browser.click("#new-folder").await;
    browser.type_in("#name", "half a na").await;
    let open = "tr[data-name='one.txt'] details";
    let script = format!("document.querySelector(\"{open}\").open = true");
    browser.script(&script).await;
    let to = "tr[data-name='one.txt'] [name=to]";
    browser.type_in(to, "half a pa").await;
    let choose = async || {
        let field = browser.find("#file").await;
        let path = file.display().to_string();
        field.send_keys(path).await.expect("a file");
    };
    browser
        .script("document.getElementById('transfers').replaceChildren()")
        .await;
    choose().await;
    browser.see(".transfer[data-tone=ok]", false).await;
    // The list would come a moment later.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    for (css, typed) in [("#name", "half a na"), (to, "half a pa")] {
        let value = browser.find(css).await.value().await.expect("a value");
        assert_eq!(value.as_deref(), Some(typed), "{css}");
    }
    browser
        .script("document.getElementById('upload').dataset.limit = '5'")
        .await;
    choose().await;
    let said = browser
        .find(".transfer[data-tone=bad] .transfer-said")
        .await;
    assert_eq!(
        said.text().await.expect("text"),
        "The request body must not be larger than 5 bytes"
    );
    browser.driver.refresh().await.expect("the page");
}
