//! WebSockets and streams of events, and what opens them. To add a route, add a line.

use super::Access::Any;
use super::Verb::{Get, Post};
use super::{Doc, Endpoint, Shape};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::web::api::{events, tickets};
use crate::web::ws;

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::api(Post, "/api/v1/ws-tickets", Any, |r| r.to(tickets::create))
        .action(Action::TicketCreate)
        .doc(
            Doc::new("Makes a key to one WebSocket, good once and for 30 seconds, as `?token=`")
                .takes(Shape::of::<tickets::NewTicketBody>())
                .answers(Shape::of::<tickets::TicketView>()),
        ),
    Endpoint::api(Get, "/api/v1/events", Any, |r| r.to(events::listen))
        .scope(Scope::ContainersRead)
        .doc(Doc::new(
            "What happens to one's containers, commands and images, as server-sent events",
        )
        .streams()
        .note(
            "Each event's data is a message of `/ws/events`. Before the server ends the stream it \
             sends an event named `end` with the `reason`.",
        )),
    Endpoint::ws("/ws/events", Any, |r| r.to(ws::events::listen))
        .scope(Scope::ContainersRead)
        .doc(Doc::new(
            "What happens to one's containers, commands and images (administrators: everyone's)",
        )
        .note(
            "Messages are JSON objects with `type` and `time`: `container.created` {id, hostname, \
             state}, `container.state` {id, hostname, state, state_reason, ipv4, started_at}, \
             `container.deleted` {id, hostname}, `command.queued` and `command.started` {id, \
             container_id}, `command.finished` {id, container_id, status, exit_code}, \
             `image.progress` {name, status, step, percent, error}, `image.removed` {name}; \
             `resync` when some were missed. Those of commands need the scope `commands` too. The \
             server closes with 1008 and a reason when access ends, with 1001 when it restarts, \
             with 1011 when it cannot tell for now: then connect again.",
        )),
    Endpoint::ws("/ws/jobs/{job_id}", Any, |r| r.to(ws::jobs::follow))
        .scope(Scope::Commands)
        .doc(Doc::new(
            "A command's progress and all of its output, for late listeners too",
        )
        .note(
            "Messages are JSON objects with `type`: `queued` {job_id}, `started`, `output` {stream: \
             `stdout` or `stderr`, chunk}, `truncated` {bytes, null when it is not known how many} \
             where output is kept no more, `finished` {status, exit_code, success, error}; then the \
             server closes with 1000. It closes with 1008 and a reason when access ends, with 1001 \
             when it restarts, with 1011 when it cannot tell for now: then connect again.",
        )),
];
