//! Programs that take the whole screen: an editor, a process viewer, a multiplexer.

use serde_json::json;

use super::Screen;
use crate::containers::{exec_with, output, running};
use crate::harness::{Server, eventually};

on_both!(whole_screen);

const ESCAPE: &str = "\x1b";
/// By which a program takes the second screen, and gives the first one back.
const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

async fn whole_screen(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "whole-screen").await;
    let row = exec_with(
        server,
        &id,
        json!({
            "command": "apt-get update -q && apt-get install -y -q --no-install-recommends \
                        vim-tiny htop tmux && ln -sf /usr/bin/vim.tiny /usr/local/bin/vim",
            "env": { "DEBIAN_FRONTEND": "noninteractive" },
        }),
    )
    .await;
    assert_eq!(row["status"], "completed", "{row}");

    let mut screen = Screen::open(&admin, &id, "?session=work").await;
    screen.until("# ").await;
    screen
        .type_in("vim -u NONE -c 'set nocompatible' /root/written\r")
        .await;
    screen.until("/root/written").await;
    screen.type_in("ia line\rgr\u{fc}n \u{1f600}").await;
    screen.until("\u{1f600}").await;
    screen.type_in(&format!("{ESCAPE}:wq\r")).await;
    screen.until(GIVEN_BACK).await;
    assert_eq!(
        output(server, &id, "cat /root/written").await,
        "a line\ngr\u{fc}n \u{1f600}"
    );

    screen.type_in("htop\r").await;
    screen.until(TAKEN).await;
    screen.until("Tasks").await;
    screen.until("init").await;
    // Another size is drawn anew, to its last column.
    screen
        .tell(json!({ "type": "resize", "cols": 120, "rows": 40 }))
        .await;
    screen.until("Quit").await;
    screen.type_in("q").await;
    screen.until(GIVEN_BACK).await;

    // What runs in a multiplexer outlives the shell, and is found again.
    screen.type_in("tmux new -s kept\r").await;
    screen.until("[kept]").await;
    screen.type_in("stty size; X=alive\r").await;
    screen.until("39 120").await;
    screen.type_in("\x02d").await;
    screen.until("[detached (from session kept)]").await;
    screen.type_in("exit\r").await;
    let (code, reason) = screen.end().await;
    assert_eq!((code, reason.as_str()), (1000, "The shell ended"));
    let mut screen = Screen::open(&admin, &id, "").await;
    screen.until("# ").await;
    screen.type_in("tmux attach\r").await;
    screen.until("[kept]").await;
    screen.type_in("echo still-$X\r").await;
    screen.until("still-alive").await;
    // ^C reaches the program inside, not what is around it; ^Z and fg stop it and go on.
    let tail_is = async |state: &str| {
        let line = "cat /proc/[0-9]*/stat 2>/dev/null | grep -o '(tail) .' || true";
        eventually(&format!("the state of tail: {state}"), 20, async || {
            (output(server, &id, line).await == state).then_some(())
        })
        .await;
    };
    screen.type_in("tail -f /dev/null\r").await;
    tail_is("(tail) S").await;
    screen.type_in("\x1a").await;
    screen.until("Stopped").await;
    tail_is("(tail) T").await;
    screen.type_in("fg\r").await;
    tail_is("(tail) S").await;
    screen.type_in("\x03").await;
    tail_is("").await;
    screen.type_in("echo code-$?\r").await;
    screen.until("code-130").await;
}
