//! hzel: a self-hosted cloud for Linux containers in one binary. This page is the tour: one
//! request, followed from socket to answer.
//!
//! ```text
//! socket → web (api | pages) → domain → db
//!                     jobs ──↗    └───→ runtime (native)
//! ```
//!
//! `web`, `cli` and `jobs` know `domain`; `domain` knows `db` and the `runtime` trait; nothing knows
//! `web`. Say a program sends `POST /api/v1/containers` with a token:
//!
//! 1. **The span.** `tracing-actix-web` gives the request its id (`web::span`); every log line of
//!    it carries that id, and so does the answer.
//! 2. **The envelope** ([`web::envelope`]) notes whether errors are to be JSON or a page, and will
//!    put on the headers that every answer has. [`web::error`] renders an [`error::Error`] either
//!    way, from the one table of codes and statuses in [`error`].
//! 3. **The route** is a line of [`web::routes::table`], the only place where routes are named. It
//!    says who may ask at all, which scope a token needs, and what the documentation says.
//! 4. **The gate** ([`web::gate`]) resolves the caller ([`auth::resolver`]: the first credential
//!    present decides), checks the kind of credential, its scope, and for browsers the CSRF token.
//!    What it found is a [`domain::ctx::Ctx`].
//! 5. **The handler** ([`web::api::containers::create`]) translates: JSON to
//!    [`domain::containers::NewContainer`], one call, [`domain::containers::Container`] to a view.
//!    The page's form ends in the same call.
//! 6. **The domain** ([`domain::containers::create`]) authorises, checks every rule, and then in one
//!    transaction writes the row, the job and the audit entry ([`db`] has the queries, for SQLite
//!    and PostgreSQL). What was acknowledged is in the database. The answer says `provisioning`.
//! 7. **The job** ([`jobs`]) is claimed by one atomic UPDATE. It drives the engine behind the
//!    [`runtime::Runtime`] trait: [`runtime::native`] makes disk, network and sandbox and has an
//!    OCI runtime start the init. What came of it, and the job's end, commit together.
//! 8. **The reconciler** ([`jobs::reconcile`]) keeps it true: when the init dies the container is
//!    `stopped`, and when the server itself was killed the next one takes everything up again.
//! 9. **Whoever watches** hears of each of these commits ([`domain::events`]) by a WebSocket
//!    ([`web::ws`]), which ends when the access it was opened with does ([`domain::access`]). What
//!    commands write goes through files ([`spool`]), so that nobody has to keep up.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod error;
pub mod jobs;
pub mod runtime;
pub mod spool;
pub mod web;
