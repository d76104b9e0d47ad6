//! What the parameters of queries mean, once for all routes that take them.
//!
//! A route names its parameters in its [`super::Doc`]; one that has no line here is a text that
//! nothing more is said of. To describe one, add a line to [`KNOWN`], those of some paths only
//! before those of all.

use serde_json::{Value, json};

use crate::domain::audit::Outcome;
use crate::domain::containers::ContainerState;
use crate::domain::page::MAX_LIMIT;
use crate::domain::users::{Role, Status};
use crate::runtime::MAX_LISTED;

/// What a value may be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// 1 for yes.
    Bit,
    /// One of these.
    Words(fn() -> Vec<&'static str>),
    /// Between these, both included.
    Number(usize, usize),
    AtLeast(usize),
}

use Kind::{AtLeast, Bit, Flag, Number, Text, Words};

struct Parameter {
    name: &'static str,
    /// How the paths end that it is meant for.
    at: &'static str,
    kind: Kind,
    about: &'static str,
    /// What an example has; only what must be there is in one.
    example: Option<&'static str>,
}

const fn known(name: &'static str, at: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter {
        name,
        at,
        kind,
        about,
        example: None,
    }
}

impl Parameter {
    const fn required(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }
}

const ANYWHERE: &str = "";
const AUTHORIZE: &str = "/oauth/authorize";
const LOG: &str = "/audit-logs";
const CALLBACK: &str = "/oidc/callback";

const KNOWN: &[Parameter] = &[
    known("state", "/containers", Words(states), "Only those in it."),
    known(
        "q",
        "/containers",
        Text,
        "Only those with this in the hostname; at most 63 bytes.",
    ),
    known(
        "q",
        "/admin/users",
        Text,
        "Only those with this in the address or the name; at most 100 bytes.",
    ),
    known(
        "user",
        LOG,
        Text,
        "Only what was done in the name of who has this id or e-mail address.",
    ),
    known(
        "container",
        LOG,
        Text,
        "Only what is about the one of this id.",
    ),
    known(
        "action",
        LOG,
        Text,
        "An action such as `container.start`, or how some begin, such as `container`.",
    ),
    known("outcome", LOG, Words(outcomes), "Only what came to this."),
    known("from", LOG, Text, "RFC 3339; this moment and later."),
    known("to", LOG, Text, "RFC 3339; before this moment."),
    known("role", ANYWHERE, Words(roles), "Only those with it."),
    known("status", ANYWHERE, Words(statuses), "Only those with it."),
    known(
        "mine",
        ANYWHERE,
        Flag,
        "Only one's own, for administrators too.",
    ),
    known(
        "force",
        "/stop",
        Flag,
        "Kills it rather than asking it to end.",
    ),
    known(
        "force",
        ANYWHERE,
        Flag,
        "Kills it at once, and tries again where a delete failed.",
    ),
    known(
        "tail",
        ANYWHERE,
        Number(1, 10_000),
        "How many lines; 200 when none.",
    ),
    known(
        "wait_seconds",
        ANYWHERE,
        Number(0, 60),
        "For so long the answer waits for the end.",
    ),
    known("path", ANYWHERE, Text, "Absolute.").required("/root/notes.txt"),
    known(
        "limit",
        "/files",
        Number(1, MAX_LISTED),
        "Entries of a directory.",
    ),
    known(
        "limit",
        ANYWHERE,
        Number(1, MAX_LIMIT as usize),
        "50 when none.",
    ),
    known(
        "cursor",
        ANYWHERE,
        Text,
        "Of the next piece: the `Link` header of the answer before has it.",
    ),
    known(
        "uid",
        ANYWHERE,
        Number(0, 65_535),
        "The container's number of the owner; root when none.",
    ),
    known(
        "gid",
        ANYWHERE,
        Number(0, 65_535),
        "The container's number of the group; root when none.",
    ),
    known(
        "mode",
        ANYWHERE,
        Text,
        "Three or four octal digits; when none, 0644 or those of the file before.",
    ),
    known("recursive", ANYWHERE, Flag, "With all that is in it."),
    known(
        "next",
        ANYWHERE,
        Text,
        "The path of a page to go to afterwards.",
    ),
    known("state", CALLBACK, Text, "As the provider sends it."),
    known("code", CALLBACK, Text, "As the provider sends it."),
    known("iss", CALLBACK, Text, "As the provider sends it."),
    known("error", CALLBACK, Text, "As the provider sends it."),
    known("client_id", AUTHORIZE, Text, "").required("$CLIENT_ID"),
    known(
        "redirect_uri",
        AUTHORIZE,
        Text,
        "Exactly one that the application has registered.",
    )
    .required("$REDIRECT_URI"),
    known("response_type", AUTHORIZE, Words(|| vec!["code"]), "").required("code"),
    known(
        "state",
        AUTHORIZE,
        Text,
        "Given back as it is; may be left out with a `code_challenge`.",
    ),
    known(
        "scope",
        AUTHORIZE,
        Text,
        "Words with spaces between; everything when none.",
    ),
    known(
        "code_challenge",
        AUTHORIZE,
        Text,
        "Required of public applications.",
    ),
    known(
        "code_challenge_method",
        AUTHORIZE,
        Words(|| vec!["S256"]),
        "With a `code_challenge`.",
    ),
    known(
        "prompt",
        AUTHORIZE,
        Text,
        "With `consent` the user is asked even for what was allowed before.",
    ),
    known(
        "session",
        ANYWHERE,
        Text,
        "A name of 1 to 64 letters, digits, hyphens and underscores, by which the shell outlives \
         the socket and is found again.",
    ),
    known(
        "since",
        ANYWHERE,
        AtLeast(0),
        "Shows only what came after so many bytes of the shell's output.",
    ),
    known(
        "shell",
        ANYWHERE,
        Text,
        "The `terminal_id` of the shell that `since` is about.",
    ),
    known(
        "binary",
        ANYWHERE,
        Bit,
        "1: what is typed and printed goes as binary messages, raw.",
    ),
    known(
        "acks",
        ANYWHERE,
        Bit,
        "1: the server sends at most 256 KiB more than `seen` has told.",
    ),
    known(
        "token",
        ANYWHERE,
        Text,
        "A ticket of `/ws-tickets`, or a token, instead of `Authorization`.",
    ),
];

fn states() -> Vec<&'static str> {
    ContainerState::ALL.iter().map(|s| s.as_str()).collect()
}

fn outcomes() -> Vec<&'static str> {
    Outcome::ALL.iter().map(|o| o.as_str()).collect()
}

fn roles() -> Vec<&'static str> {
    Role::ALL.iter().map(|r| r.as_str()).collect()
}

fn statuses() -> Vec<&'static str> {
    Status::ALL.iter().map(|s| s.as_str()).collect()
}

/// The parameter `name` of the query at `path`.
pub(super) fn parameter(name: &str, path: &str) -> Value {
    let found = KNOWN
        .iter()
        .find(|known| known.name == name && path.ends_with(known.at));
    let schema = match found.map(|known| known.kind) {
        None | Some(Text) => json!({ "type": "string" }),
        Some(Flag) => json!({ "type": "boolean" }),
        Some(Bit) => json!({ "type": "string", "enum": ["0", "1"] }),
        Some(Words(words)) => json!({ "type": "string", "enum": words() }),
        Some(Number(low, high)) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Some(AtLeast(low)) => json!({ "type": "integer", "minimum": low }),
    };
    let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
    if let Some(known) = found {
        if !known.about.is_empty() {
            parameter["description"] = json!(known.about);
        }
        if let Some(example) = known.example {
            parameter["required"] = json!(true);
            parameter["example"] = json!(example);
        }
    }
    parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_its_path_says() {
        let states = parameter("state", "/api/v1/containers");
        assert_eq!(states["schema"]["enum"][0], "provisioning");
        assert!(parameter("state", "/api/v1/oauth/authorize")["schema"]["enum"].is_null());
        assert_eq!(
            parameter("path", "/api/v1/containers/{id}/files")["required"],
            true
        );
        let unknown = parameter("nothing", "/");
        assert_eq!(unknown["schema"]["type"], "string");
    }
}
