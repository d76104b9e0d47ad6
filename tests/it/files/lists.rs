//! Directories of any size, read in pieces.

use std::collections::BTreeSet;

use super::Files;
use crate::containers::{exec, running};
use crate::harness::Server;
use crate::harness::client::send;

on_both!(in_pieces, as_asked_for);

/// What stays is listed once, whatever comes and goes between two pieces.
async fn in_pieces(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "in-pieces").await;
    let files = Files::of(&admin, &id);
    exec(
        server,
        &id,
        "mkdir /srv/many && cd /srv/many && seq -f 'f%05g' 12000 | xargs touch && \
         touch \"$(printf 'z\\377')\" && ln -s f00001 link",
    )
    .await;
    let (mut seen, mut pieces) = (Vec::new(), 0);
    let mut query = vec![("path".to_owned(), "/srv/many".to_owned())];
    query.push(("limit".to_owned(), "5000".to_owned()));
    loop {
        let pairs: Vec<(&str, &str)> = query.iter().map(|(n, v)| (&**n, &**v)).collect();
        let reply = send(files.request("GET", &pairs)).await;
        let rows = reply.data().as_array().expect("a list").clone();
        assert!(rows.len() <= 5000);
        seen.extend(
            rows.iter()
                .map(|row| row["name"].as_str().unwrap().to_owned()),
        );
        pieces += 1;
        let link = reply.header("link");
        let Some(target) = link.split(['<', '>']).nth(1) else {
            break;
        };
        assert!(link.ends_with("rel=\"next\""), "{link}");
        let target = url::Url::parse(&format!("http://host{target}")).expect("an address");
        query = target.query_pairs().into_owned().collect();
        exec(
            server,
            &id,
            &format!("cd /srv/many && touch a-{pieces} && rm -f f00002"),
        )
        .await;
    }
    assert_eq!(pieces, 3);
    assert_eq!(seen.len(), 12_002);
    assert!(seen.is_sorted(), "by their names");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    assert!(seen.contains(&"z\u{FFFD}".to_owned()), "{:?}", seen.last());
    // Without a word about it, as many as there may be.
    let reply = files.get("/srv/many").await;
    assert_eq!(reply.data().as_array().expect("a list").len(), 10_000);
    assert!(reply.header("link").contains("cursor="));
}

/// A tar is made for who wants one.
async fn as_asked_for(server: &mut Server) {
    let admin = server.admin();
    let id = running(server, "as-asked").await;
    let files = Files::of(&admin, &id);
    for (accept, tar) in [
        ("application/x-tar", true),
        ("text/html, application/x-tar;q=0.5", true),
        ("application/x-tar;q=0, */*", false),
        ("application/x-tar, */*", true),
        ("application/json, application/x-tar;q=0.9", false),
        ("*/*, application/x-tar;q=0.1", false),
        ("*/*", false),
        ("nonsense", false),
    ] {
        let request = files.request("GET", &[("path", "/srv")]);
        let reply = send(request.header("accept", accept)).await;
        let kind = if tar {
            "application/x-tar"
        } else {
            "application/json"
        };
        assert_eq!(reply.header("content-type"), kind, "{accept}");
    }
}
