//! What hzel is about: one file per noun, each the only way to that noun for pages, API, command
//! line and jobs. A function takes [`ctx::Ctx`] first, authorises, checks the rules, and then acts
//! in one transaction of its own.
//!
//! To add a noun: its file here, its table and queries in `db`, its routes in `web::routes`.

pub mod access;
pub mod audit;
pub mod commands;
pub mod containers;
pub mod ctx;
pub mod events;
pub mod files;
pub mod idempotency;
pub mod ids;
pub mod images;
pub mod jobs;
pub mod oauth;
pub mod oidc;
pub mod page;
pub mod passkeys;
pub mod password_resets;
pub mod permissions;
pub mod second_factor;
pub mod sessions;
pub mod setup;
pub mod terminals;
pub(crate) mod text_enum;
pub mod tickets;
pub mod time;
pub mod tokens;
pub mod unclaimed;
pub mod user_admin;
pub mod users;
