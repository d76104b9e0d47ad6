//! The API of the audit log. To add a route, add a line.

use super::Access::Direct;
use super::Verb::Get;
use super::{Doc, Endpoint, Shape};
use crate::auth::actor::Scope;
use crate::web::api::audit;

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::api(Get, "/api/v1/audit-logs", Direct, |r| r.to(audit::list)).doc(
        Doc::new("What everyone did or tried, newest first (administrators)")
            .pages()
            .query(&["user", "container", "action", "outcome", "from", "to"])
            .answers(Shape::list::<audit::AuditEntryView>()),
    ),
    // As tokens are: a program may watch over the account it belongs to, an application may not.
    Endpoint::api(Get, "/api/v1/auth/activity", Direct, |r| {
        r.to(audit::list_own)
    })
    .scope(Scope::Profile)
    .doc(
        Doc::new("What was done or tried in one's own name, newest first")
            .pages()
            .answers(Shape::list::<audit::AuditEntryView>()),
    ),
];
