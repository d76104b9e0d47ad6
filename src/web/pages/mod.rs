//! The pages: HTML for people, over the same domain calls as the API.
//!
//! A page is a typed struct beside its handler and a template of the same name under
//! `templates/pages/`; its parts are macros under `templates/components/`, shown in every state on
//! `/styleguide`. A handler translates only: extract, one domain call, render. To add a page,
//! write both and name the handler in `web/routes.rs`.

pub mod account;
pub mod activity;
pub mod commands;
pub mod containers;
pub mod errors;
pub mod form;
pub mod images;
pub mod mark;
pub mod say;
pub mod shell;
pub mod sign_in;
pub mod styleguide;
pub mod tokens;
