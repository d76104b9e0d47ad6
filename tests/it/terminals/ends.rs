//! Who may not look at a terminal, and how one ends.

use std::time::Duration;

use serde_json::json;

use super::Screen;
use crate::containers::{CONTAINERS, output, running};
use crate::harness::{ADMIN, Client, Kind, Options, Server, eventually, with_server};

on_both!(refusals, ends);
on_both_by_hand!(idle, restarts);

/// The container has no terminal that one could look into.
async fn none_is_listed(admin: &Client, id: &str) {
    let list = admin.get(&format!("{CONTAINERS}/{id}/terminals")).await;
    assert_eq!(list.data(), &json!([]));
}

async fn refusals(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "refusals").await;
    let path = format!("/ws/terminal/{id}");
    let stranger = server.user("stranger@example.org");
    let refused = stranger.refused(&path).await;
    refused
        .is(403, "FORBIDDEN")
        .says("You do not have access to this container");
    stranger
        .get(&format!("{CONTAINERS}/{id}/terminals"))
        .await
        .is(403, "FORBIDDEN");
    stranger
        .delete(&format!("{CONTAINERS}/{id}/terminals/x"))
        .await
        .is(403, "FORBIDDEN");
    server
        .anonymous()
        .refused(&path)
        .await
        .is(401, "UNAUTHORIZED");
    let narrow = server.token_of(ADMIN, &["--scopes", "commands"]);
    let narrow = server.anonymous().bearer(&narrow);
    narrow.refused(&path).await.is(403, "FORBIDDEN");
    let missing = "00000000-0000-7000-8000-000000000000";
    for other in [missing, "nonsense"] {
        let refused = admin.refused(&format!("/ws/terminal/{other}")).await;
        refused
            .is(404, "CONTAINER_NOT_FOUND")
            .says(&format!("Container {other} was not found"));
    }
    for (query, about) in [
        ("?session=", "session"),
        ("?session=a%20b", "session"),
        ("?session=..%2f", "session"),
        ("?session=a&since=-1", "since"),
        ("?binary=2", "binary"),
    ] {
        let refused = admin.refused(&format!("{path}{query}")).await;
        refused.is(400, "VALIDATION_FAILED");
        assert!(refused.message().contains(about), "{refused:?}");
    }
    admin
        .refused(&format!("{path}?session=a&since=x"))
        .await
        .is(400, "BAD_REQUEST");
    // No upgrade, no shell.
    admin.get(&path).await.is(400, "BAD_REQUEST");
    none_is_listed(&admin, &id).await;

    // A ticket opens one, once.
    let ticket = admin
        .post("/api/v1/ws-tickets", json!({ "for": path }))
        .await
        .str("ticket");
    server.secret(&ticket);
    let with = format!("{path}?token={ticket}&session=by-ticket");
    let mut screen = server.anonymous().socket(&with).await;
    assert_eq!(screen.message().await["type"], "opened");
    server
        .anonymous()
        .refused(&with)
        .await
        .is(401, "UNAUTHORIZED");

    // So many and no more, in a container.
    let mut open = Vec::new();
    for number in 1..32 {
        open.push(Screen::open(&admin, &id, &format!("?session=s{number}")).await);
    }
    let refused = admin.refused(&format!("{path}?session=more")).await;
    refused.is(403, "QUOTA_EXCEEDED");
    assert!(refused.message().contains("32"), "{refused:?}");
    // Into an open one, one can still look.
    Screen::open(&admin, &id, "?session=s1").await;
    drop(open);

    admin
        .act(&format!("{CONTAINERS}/{id}/stop?force=true"))
        .await
        .data();
    admin
        .refused(&path)
        .await
        .is(409, "CONFLICT")
        .says("The container is not running");
}

async fn ends(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "ends").await;
    // Without a name it ends with its socket, and what it ran with it.
    let mut screen = Screen::open(&admin, &id, "").await;
    screen.type_in("echo be''gun; sleep 4321\r").await;
    screen.until("begun\r\n").await;
    drop(screen);
    let sleeps = "ps -e -o args= | grep -c '[s]leep 4321' || true";
    eventually("the end of what it ran", 20, async || {
        (output(server, &id, sleeps).await == "0").then_some(())
    })
    .await;
    // But not what was meant to stay.
    let mut screen = Screen::open(&admin, &id, "").await;
    screen
        .type_in("setsid -f sleep 5432 </dev/null >/dev/null 2>&1; exit\r")
        .await;
    assert_eq!(screen.end().await.0, 1000);
    assert_eq!(
        output(server, &id, "ps -e -o args= | grep -c '[s]leep 5432'").await,
        "1"
    );
    // One that ignores the hang-up is killed.
    let mut screen = Screen::open(&admin, &id, "").await;
    screen
        .type_in(
            "exec sh -c 'trap \"\" HUP TERM INT; echo be''gun; while :; do sleep 3.21; done'\r",
        )
        .await;
    screen.until("begun\r\n").await;
    drop(screen);
    eventually("the end of the stubborn", 20, async || {
        let left = output(
            server,
            &id,
            "ps -e -o args= | grep -c '[t]rap \"\" HUP' || true",
        )
        .await;
        (left == "0").then_some(())
    })
    .await;

    // With the credential.
    let token = server.token_of(ADMIN, &["--scopes", "terminal"]);
    let by_token = server.anonymous().bearer(&token);
    let mut screen = Screen::open(&by_token, &id, "?session=token").await;
    let tokens = admin.get("/api/v1/tokens").await;
    let row = tokens.data()[0]["id"].as_str().expect("an id").to_owned();
    admin.delete(&format!("/api/v1/tokens/{row}")).await.data();
    let (code, reason) = screen.end().await;
    assert_eq!(
        (code, reason.as_str()),
        (1008, "The token was revoked or has expired")
    );
    // Its user's other credentials still find the shell.
    let mut screen = Screen::open(&admin, &id, "?session=token").await;
    assert_eq!(screen.run("echo there").await, "there\r\n");

    // With the container: whoever looks is told, and named ones end too.
    admin.act(&format!("{CONTAINERS}/{id}/stop")).await.data();
    let (code, reason) = screen.end().await;
    assert_eq!((code, reason.as_str()), (1000, "The container stopped"));
    assert_eq!(screen.types(), ["error", "closed"]);
    assert_eq!(
        screen.said[screen.said.len() - 2]["message"],
        "The container stopped"
    );
    none_is_listed(&admin, &id).await;
    admin.act(&format!("{CONTAINERS}/{id}/start")).await.data();
    let mut screen = Screen::open(&admin, &id, "?session=token").await;
    assert_eq!(screen.run("echo anew").await, "anew\r\n");
    admin
        .delete(&format!("{CONTAINERS}/{id}?force=true"))
        .await
        .data();
    screen.end().await;

    // Every one was recorded, with its end.
    assert_eq!(crate::audit::actions(server, "terminal.open", "success"), 6);
    eventually("the ends are recorded", 10, async || {
        let ends = crate::audit::actions(server, "terminal.close", "success");
        (ends == 5).then_some(())
    })
    .await;
}

async fn idle(kind: Kind) {
    let options = Options::with("HZEL_TERMINAL_IDLE", "2s");
    with_server(kind, options, async |server| {
        let admin = server.admin();
        let id = running(server, "idle").await;
        let mut screen = Screen::open(&admin, &id, "?session=main").await;
        // As long as someone looks it stays.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(screen.run("echo there").await, "there\r\n");
        drop(screen);
        eventually("the end of the idle", 20, async || {
            let list = admin.get(&format!("{CONTAINERS}/{id}/terminals")).await;
            (list.data() == &json!([])).then_some(())
        })
        .await;

        // A user who is disabled loses the shells too.
        let email = "second@example.org";
        server.add_user(email, "admin");
        let second = server.anonymous().bearer(&server.token_of(email, &[]));
        let mut screen = Screen::open(&second, &id, "?session=main").await;
        server.cli(&["user", "disable", email], "").ok();
        let (code, _) = screen.end().await;
        assert_eq!(code, 1008);
        eventually("the end of the disabled one's", 20, async || {
            let count = output(server, &id, "ps -e -o comm= | grep -c bash || true").await;
            (count == "0").then_some(())
        })
        .await;
    })
    .await;
}

/// The server's end, by signal and by force, takes its shells with it.
async fn restarts(kind: Kind) {
    with_server(kind, Options::default(), async |server| {
        let admin = server.admin();
        let id = running(server, "restarts").await;
        let mut screen = Screen::open(&admin, &id, "?session=main").await;
        screen.run("true").await;
        let took = server.stop().await;
        assert!(took < Duration::from_secs(10), "{took:?}");
        let (code, _) = screen.end().await;
        assert_eq!(code, 1001);
        server.launch().await;
        let bashes = "ps -e -o comm= | grep -c bash || true";
        eventually("the end of the shell", 20, async || {
            (output(server, &id, bashes).await == "0").then_some(())
        })
        .await;
        let mut screen = Screen::open(&admin, &id, "?session=main").await;
        screen.type_in("while :; do echo busy; done\r").await;
        screen.until("busy\r\n").await;
        server.kill();
        server.launch().await;
        eventually("the end of the killed one's shell", 20, async || {
            (output(server, &id, bashes).await == "0").then_some(())
        })
        .await;
        let mut screen = Screen::open(&admin, &id, "?session=main").await;
        assert_eq!(screen.run("echo there").await, "there\r\n");
    })
    .await;
}
