//! The page of the API: all that the OpenAPI document has, for everyone who may read that.

use std::collections::BTreeSet;

use crate::harness::{ADMIN, Client, Server};

on_both!(reference, weight);

/// What a page and all that it loads may weigh on the way to a browser.
const MOST: usize = 60 * 1024;

async fn reference(server: &mut Server) {
    let nobody = server.anonymous();
    let session = server.sign_in(ADMIN).await.client;
    let document = nobody.get("/api/v1/openapi.json").await.json;
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 50, "{}", paths.len());
    for client in [&nobody, &session] {
        let page = client.get("/docs").await;
        assert_eq!(page.status, 200);
        for (path, item) in paths {
            let shown = format!("<code class=\"route\">{path}</code>");
            let times = page.text.matches(&shown).count();
            let verbs = item.as_object().expect("operations");
            assert_eq!(times, verbs.len(), "{path}");
        }
        let schemas = document["components"]["schemas"].as_object();
        for (name, schema) in schemas.into_iter().flatten().filter(|(n, _)| *n != "Error") {
            let fields = schema["properties"].as_object().into_iter().flatten();
            for (field, _) in fields {
                let shown = page.text.contains(&format!("{field}</code>"));
                assert!(shown, "{name} {field}");
            }
        }
        // Every link of the index leads somewhere, and no two things have one name.
        let ids: Vec<&str> = attributes(&page.text, "id");
        let once: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), once.len());
        for link in attributes(&page.text, "href") {
            if let Some(id) = link.strip_prefix('#') {
                assert!(once.contains(id), "{link}");
            }
        }
        assert!(!page.text.contains(" style="));
    }
    // Who looks is on the page of a session only.
    for (client, known) in [(&session, true), (&server.admin(), false), (&nobody, false)] {
        let page = client.get("/docs").await;
        assert_eq!(page.text.contains(ADMIN), known);
    }
}

async fn weight(server: &mut Server) {
    for client in [server.anonymous(), server.sign_in(ADMIN).await.client] {
        let (page, mut whole) = fetch(&client, "/docs").await;
        for name in ["href", "src"] {
            for address in attributes(&page, name) {
                if address.starts_with("/static/") {
                    whole += fetch(&client, address).await.1;
                }
            }
        }
        assert!(whole < MOST, "{whole}");
    }
}

/// A text, and how many bytes it is on the way.
async fn fetch(client: &Client, path: &str) -> (String, usize) {
    let request = client
        .request("GET", path)
        .header("accept-encoding", "gzip");
    let reply = request.send().await.expect("an answer");
    assert_eq!(reply.headers()["content-encoding"], "gzip", "{path}");
    let packed = reply.bytes().await.expect("a body");
    (client.get(path).await.text, packed.len())
}

/// The values of an attribute.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let before = format!(" {name}=\"");
    let found = page.split(before.as_str()).skip(1);
    found.filter_map(|rest| rest.split('"').next()).collect()
}
