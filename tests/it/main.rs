//! What hzel promises, tried on the real program: each test starts `hzel serve` with its own data
//! directory and database, on SQLite and on PostgreSQL, and asks it by HTTP, by the command line
//! and by a browser. Containers are real ones.
//!
//! To add a test: an `async fn(&mut Server)` in the file of its noun, and its name in that file's
//! `on_both!`.

#[macro_use]
mod harness;

mod audit;
mod auth;
mod bad_input;
mod browser;
mod commands;
mod containers;
mod coverage;
mod crash;
mod docs;
mod envelope;
mod events;
mod faults;
mod files;
mod images;
mod isolation;
mod live;
mod matrix;
mod oauth;
mod oidc;
mod passkeys;
mod terminals;
mod upkeep;
mod users;
