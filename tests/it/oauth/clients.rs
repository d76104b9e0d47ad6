//! Clients that nobody here wrote, each the whole way, in each way of saying who they are:
//! Authlib, and openid-client on oauth4webapi. `.ci/setup` installs them beside their scripts.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{App, without_image};
use crate::harness::{Kind, Server, process};

on_both_by_hand!(authlib, openid_client);

const METHODS: [&str; 3] = ["client_secret_basic", "client_secret_post", "none"];

async fn authlib(kind: Kind) {
    let python = installed("venv/bin/python");
    without_image(kind, async |server| {
        for method in METHODS {
            run(server, Command::new(&python), "authlib_flow.py", method).await;
        }
    })
    .await;
}

async fn openid_client(kind: Kind) {
    installed("node_modules/openid-client");
    without_image(kind, async |server| {
        for method in METHODS {
            run(
                server,
                Command::new("node"),
                "openid_client_flow.js",
                method,
            )
            .await;
        }
    })
    .await;
}

/// # Panics
/// When it is not there: such a test is never left out.
fn installed(what: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(what);
    assert!(
        path.exists(),
        "{} is missing; `bash .ci/setup` installs it",
        path.display()
    );
    path.display().to_string()
}

async fn run(server: &Server, mut command: Command, script: &str, method: &str) {
    let email = format!("{}@example.org", method.replace('_', "-"));
    server.add_user(&email, "user");
    let user = server.sign_in(&email).await;
    let uri = "http://127.0.0.1:9/callback";
    let app = App::make(server, &server.admin(), uri, method == "none").await;
    let given = json!({
        "url": server.url, "client_id": app.client_id, "client_secret": app.secret,
        "redirect_uri": uri, "method": method, "cookie": user.cookie, "csrf": user.csrf,
    });
    command.arg(installed(script));
    let output = process::run(command, &given.to_string());
    assert_eq!(
        output.code,
        Some(0),
        "{script} with {method}:\n{}",
        output.stderr
    );
    let said: Value = serde_json::from_str(&output.stdout).expect("JSON");
    for secret in said["secrets"].as_array().expect("secrets") {
        server.secret(secret.as_str().expect("a text"));
    }
}
