//! What the routes are asked about. All of it is the owner's; what a request could use up is made
//! anew for each.
//!
//! To give a new kind of route its thing, add its prefix to [`Things::path`].

use hzel::web::routes::{Endpoint, Verb};

use super::OWNER;
use crate::harness::{Server, eventually};

pub const VIEWER: &str = "viewer@example.org";
pub const OPERATOR: &str = "operator@example.org";
/// Whom administrators deal with.
pub const TARGET: &str = "target@example.org";

/// Bits of the two presets that are not the owner's.
const SHARED: [(&str, i32); 2] = [(VIEWER, 3), (OPERATOR, 63)];

/// See the module.
pub struct Things {
    owner: String,
    target: String,
    others: Vec<(String, i32)>,
    container: String,
    node: String,
    command: String,
}

impl Things {
    pub async fn make(server: &Server) -> Self {
        let users = server.admin().get("/api/v1/admin/users?limit=200").await;
        let id_of = |email: &str| -> String {
            let users = users.data().as_array().expect("a list");
            let user = users.iter().find(|user| user["email"] == email);
            let id = user.expect("a user")["id"].as_str();
            id.expect("an id").to_owned()
        };
        let container = crate::containers::running(server, "shared").await;
        let path = format!("/api/v1/containers/{container}");
        let node = server.admin().get(&path).await.str("node_name");
        let command = server
            .admin()
            .post(
                &format!("{path}/commands"),
                serde_json::json!({ "command": "true" }),
            )
            .await
            .str("id");
        eventually("the command is over", 30, async || {
            let reply = server
                .admin()
                .get(&format!("/api/v1/commands/{command}"))
                .await;
            (reply.str("status") == "completed").then_some(())
        })
        .await;
        let things = Self {
            owner: id_of(OWNER),
            target: id_of(TARGET),
            others: SHARED.map(|(email, bits)| (id_of(email), bits)).into(),
            container,
            node,
            command,
        };
        let sql = "UPDATE containers SET user_id";
        things.execute(server, &format!("{sql} = '{}'", things.owner));
        things.share(server, &things.container);
        things
    }

    fn execute(&self, server: &Server, sql: &str) {
        server
            .database
            .execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn share(&self, server: &Server, container: &str) {
        for (user, bits) in &self.others {
            let sql = format!(
                "INSERT INTO container_members VALUES ('{container}', '{user}', {bits}, \
                 CURRENT_TIMESTAMP)"
            );
            self.execute(server, &sql);
        }
    }

    /// The route's address, about something of the owner's.
    pub fn path(&self, server: &Server, endpoint: &Endpoint) -> String {
        let path = endpoint.path;
        let Some(at) = path.find("/{") else {
            return path.to_owned();
        };
        let ends = path.ends_with("/delete")
            || (endpoint.verb == Verb::Delete && !path.contains("/terminals"));
        let id = match &path[..at] {
            "/api/v1/containers" | "/containers" if ends => self.spare_container(server),
            "/api/v1/containers" | "/containers" | "/ws/terminal" => self.container.clone(),
            "/api/v1/commands" | "/commands" | "/ws/jobs" => self.command.clone(),
            "/api/v1/admin/users" | "/admin/users" => self.target.clone(),
            "/api/v1/images" | "/images" => "nothing".to_owned(),
            "/api/v1/tokens" | "/tokens" => self.token(server),
            "/api/v1/auth/sessions" | "/sessions" => self.session(server, &self.owner),
            "/api/v1/auth/passkeys" | "/profile/passkeys" => self.passkey(server),
            "/api/v1/auth/oidc/identities" | "/profile/oidc" => self.identity(server),
            "/api/v1/oauth/apps" | "/apps" => self.app(server).0,
            "/api/v1/oauth/apps/public" => self.app(server).1,
            "/api/v1/oauth/authorizations" | "/authorizations" => self.authorization(server),
            other => panic!("nothing is known for {other}"),
        };
        let rest = path[at..].split_once('}').map_or("", |(_, rest)| rest);
        let rest = rest.replace("{session_id}", &self.session(server, &self.target));
        let rest = rest.replace("{name}", "main");
        format!("{}/{id}{rest}", &path[..at])
    }

    /// A row that no engine knows anything of: it is only to be deleted.
    fn spare_container(&self, server: &Server) -> String {
        let id = new_id();
        let sql = format!(
            "INSERT INTO containers (id, user_id, hostname, image, node_name, state, wanted, \
             cpu_cores, memory_mb, disk_gb, ssh_keys, created_at, updated_at) VALUES ('{id}', \
             '{}', 'h{id}', 'x', '{}', 'stopped', 'stopped', 1, 512, 18, '', CURRENT_TIMESTAMP, \
             CURRENT_TIMESTAMP)",
            self.owner, self.node
        );
        self.execute(server, &sql);
        self.share(server, &id);
        id
    }

    fn token(&self, server: &Server) -> String {
        let id = new_id();
        let sql = format!(
            "INSERT INTO tokens (id, user_id, name, prefix, hash, created_at) VALUES ('{id}', \
             '{}', 'x', 'x', '{id}', CURRENT_TIMESTAMP)",
            self.owner
        );
        self.execute(server, &sql);
        id
    }

    fn session(&self, server: &Server, user: &str) -> String {
        let id = new_id();
        let sql = format!(
            "INSERT INTO sessions (id, key_hash, user_id, csrf_token, auth_method, created_at, \
             last_seen_at, expires_at) VALUES ('{id}', '{id}', '{user}', 'x', 'session', \
             CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, '2999-01-01 00:00:00')"
        );
        self.execute(server, &sql);
        id
    }

    fn passkey(&self, server: &Server) -> String {
        let id = new_id();
        let sql = format!(
            "INSERT INTO passkeys (id, user_id, credential_id, name, credential, created_at) \
             VALUES ('{id}', '{}', '{id}', 'x', '{{}}', CURRENT_TIMESTAMP)",
            self.owner
        );
        self.execute(server, &sql);
        id
    }

    fn identity(&self, server: &Server) -> String {
        let id = new_id();
        let sql = format!(
            "INSERT INTO oidc_identities (id, user_id, issuer, subject, created_at) VALUES \
             ('{id}', '{}', 'x', '{id}', CURRENT_TIMESTAMP)",
            self.owner
        );
        self.execute(server, &sql);
        id
    }

    /// An application's id and its client's.
    fn app(&self, server: &Server) -> (String, String) {
        let (id, client) = (new_id(), new_id().replace('-', ""));
        let sql = format!(
            "INSERT INTO oauth_apps (id, client_id, user_id, name, description, redirect_uris, \
             public, secret_hash, secret_prefix, created_at, updated_at) VALUES ('{id}', '{client}', '{}', 'x', '', \
             '[\"https://app.example.org/\"]', FALSE, '{id}', 'x', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
            self.owner
        );
        self.execute(server, &sql);
        (id, client)
    }

    /// The application that the owner authorized.
    fn authorization(&self, server: &Server) -> String {
        let (app, _) = self.app(server);
        let sql = format!(
            "INSERT INTO oauth_authorizations (id, user_id, app_id, scopes, created_at, \
             updated_at) VALUES ('{}', '{}', '{app}', 'profile', CURRENT_TIMESTAMP, \
             CURRENT_TIMESTAMP)",
            new_id(),
            self.owner
        );
        self.execute(server, &sql);
        app
    }
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
