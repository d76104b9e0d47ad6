//! The pages on which administrators deal with accounts.

use super::{NEW, between, field, id_of, secret_of};
use crate::harness::{ADMIN, Server};

on_both!(pages_for_administrators);

async fn pages_for_administrators(server: &mut Server) {
    let session = server.sign_in(ADMIN).await;
    let client = &session.client;
    let page = client
        .post_form(
            "/admin/users",
            &field(
                &session,
                &[
                    ("email", "carl@example.org"),
                    ("display_name", "Carl"),
                    ("role", "user"),
                ],
            ),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let secret = secret_of(
        server,
        between(&page.text, "data-test=\"reset-link\">", "<"),
    );
    assert!(!client.get("/admin/users").await.text.contains(&secret));

    let refused = client
        .post_form(
            "/admin/users",
            &field(&session, &[("email", "x"), ("display_name", "Kept")]),
        )
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text.contains("id=\"email-error\""), "{refused:?}");
    assert!(refused.text.contains("value=\"Kept\""), "{refused:?}");

    // The owner's side, without scripts: the link pasted into the form.
    let nobody = server.anonymous();
    let form = nobody.get("/reset").await;
    let token = between(&form.text, "name=\"csrf_token\" value=\"", "\"");
    let cookie = form
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let browser = nobody.with("cookie", &cookie);
    let pasted = format!("{}/reset#{secret}", server.url);
    let refused = browser
        .post_form(
            "/reset",
            &[
                ("csrf_token", token),
                ("token", &pasted),
                ("new_password", "short"),
            ],
        )
        .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(
        refused.text.contains("id=\"new_password-error\""),
        "{refused:?}"
    );
    let done = browser
        .post_form(
            "/reset",
            &[
                ("csrf_token", token),
                ("token", &pasted),
                ("new_password", NEW),
            ],
        )
        .await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, "/login?changed=password")
    );
    let carl = nobody.sign_in("carl@example.org", NEW).await;

    let id = id_of(server, "carl@example.org").await;
    let path = format!("/admin/users/{id}");
    let page = client.get(&path).await;
    assert!(page.text.contains("carl@example.org"), "{page:?}");
    for (way, fields) in [
        (path.clone(), vec![("status", "disabled")]),
        (path.clone(), vec![("status", "active")]),
        (path.clone(), vec![("role", "admin")]),
        (format!("{path}/sessions/end"), vec![]),
    ] {
        let reply = client.post_form(&way, &field(&session, &fields)).await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (303, path.as_str()),
            "{way}"
        );
    }
    carl.client
        .get("/api/v1/auth/me")
        .await
        .is(401, "UNAUTHORIZED");
    let found = client.get("/admin/users?q=carl&status=active").await;
    assert!(found.text.contains(&id), "{found:?}");
    let found = client.get("/admin/users?q=carl&status=disabled").await;
    assert!(!found.text.contains(&id), "{found:?}");

    server.add_user("dora@example.org", "user");
    let dora = server.sign_in("dora@example.org").await;
    for path in ["/admin/users", &path] {
        assert_eq!(dora.client.get(path).await.status, 403, "{path}");
    }
    let reply = dora
        .client
        .post_form(&path, &field(&dora, &[("role", "admin")]))
        .await;
    assert_eq!(reply.status, 403, "{reply:?}");
}
