//! Terminals: the socket, what is open, and the page. To add a route, add a line.

use super::Access::{Any, Session};
use super::Verb::{Delete, Get};
use super::{Doc, Endpoint, Shape};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::web::api::terminals;
use crate::web::{pages, ws};

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::ws("/ws/terminal/{container_id}", Any, |r| {
        r.to(ws::terminals::open)
    })
    .scope(Scope::Terminal)
    .action(Action::TerminalOpen)
    .doc(
        Doc::new("A WebSocket to a login shell in a running container")
            .query(&["session", "since", "shell", "binary", "acks"])
            .note(
                "Messages are JSON objects with `type`. To the server: `input` {data}, `resize` \
                 {cols, rows}, `file_upload` {path, data in base64}, `seen` {offset}. From it: \
                 `opened` {container_id, terminal_id, session, offset, replay}, `output` {data}, \
                 `resized` {cols, rows}, `file_uploaded` {path}, `file_upload_error` {path, \
                 message}, `error` {message}, `closed`.",
            ),
    ),
    Endpoint::api(Get, "/api/v1/containers/{id}/terminals", Any, |r| {
        r.to(terminals::list)
    })
    .scope(Scope::Terminal)
    .doc(
        Doc::new("One's shells in a container, oldest first")
            .answers(Shape::of::<Vec<terminals::TerminalView>>()),
    ),
    Endpoint::api(
        Delete,
        "/api/v1/containers/{id}/terminals/{name}",
        Any,
        |r| r.to(terminals::end),
    )
    .scope(Scope::Terminal)
    .action(Action::TerminalClose)
    .doc(
        Doc::new("Ends one of one's shells, by its session's name or its id")
            .answers(Shape::of::<String>()),
    ),
    Endpoint::page(Get, "/containers/{id}/terminal", Session, |r| {
        r.to(pages::containers::terminal::show)
    }),
];
