//! WebSockets, and what opens them. To add a route, add a line.

use super::Access::Any;
use super::Verb::Post;
use super::{Doc, Endpoint, Shape};
use crate::domain::audit::Action;
use crate::web::api::tickets;

pub(super) const TABLE: &[Endpoint] =
    &[
        Endpoint::api(Post, "/api/v1/ws-tickets", Any, |r| r.to(tickets::create))
            .action(Action::TicketCreate)
            .doc(
                Doc::new(
                    "Makes a key to one WebSocket, good once and for 30 seconds, as `?token=`",
                )
                .takes(Shape::of::<tickets::NewTicketBody>())
                .answers(Shape::of::<tickets::TicketView>()),
            ),
    ];
