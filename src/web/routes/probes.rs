//! What machines that watch ask, and the API's description. To add a route, add a line.

use super::Access::Anyone;
use super::Verb::Get;
use super::{Doc, Endpoint, Shape};
use crate::web::api::health;
use crate::web::openapi;

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::probe("/healthz", |r| r.to(health::alive)),
    Endpoint::probe("/readyz", |r| r.to(health::ready)),
    Endpoint::probe("/openapi.json", |r| r.to(openapi::serve)),
    Endpoint::api(Get, "/api/v1/healthz", Anyone, |r| r.to(health::alive))
        .doc(Doc::new("Whether the server is alive").answers(Shape::of::<health::Alive>())),
    Endpoint::api(Get, "/api/v1/readyz", Anyone, |r| r.to(health::ready)).doc(
        Doc::new("Whether the database and the container engine can be reached")
            .answers(Shape::of::<health::Ready>()),
    ),
    Endpoint::api(Get, "/api/v1/openapi.json", Anyone, |r| {
        r.to(openapi::serve)
    })
    .doc(Doc::new("The API's description in OpenAPI 3.1").bare()),
];
