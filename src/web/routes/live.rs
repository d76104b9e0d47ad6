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
            "What happens to one's containers, commands and images, as server-sent events; each \
             one's data is a message of `/ws/events`",
        )),
    Endpoint::ws("/ws/events", Any, |r| r.to(ws::events::listen))
        .scope(Scope::ContainersRead)
        .doc(Doc::new(
            "What happens to one's containers, commands and images (administrators: everyone's), \
             as it happens",
        )),
    Endpoint::ws("/ws/jobs/{job_id}", Any, |r| r.to(ws::jobs::follow))
        .scope(Scope::Commands)
        .doc(Doc::new(
            "A command's progress and all of its output from the first byte, also for late and for \
             several listeners",
        )),
];
