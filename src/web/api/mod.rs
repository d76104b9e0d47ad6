//! The JSON API: what a request says becomes one domain call, and its answer a view. No rule is in
//! here.
//!
//! To add a noun: a file with its bodies, views and handlers, and its lines in `web::routes`.

pub mod admin;
pub mod audit;
pub mod auth;
pub mod commands;
pub mod containers;
pub mod events;
pub mod files;
pub mod health;
pub mod images;
pub mod oauth;
pub mod oauth_token;
pub mod oidc;
pub mod passkeys;
pub mod sessions;
pub mod terminals;
pub mod tickets;
pub mod tokens;
pub mod totp;

use crate::domain::page::PageRequest;
use crate::error::Result;
use crate::web::extract::{QueryWhole, Whole};

/// `?limit=&cursor=`.
#[derive(Debug, serde::Deserialize)]
pub struct PageQuery {
    limit: Option<QueryWhole>,
    cursor: Option<String>,
}

impl PageQuery {
    fn parse(&self) -> Result<PageRequest> {
        PageRequest::parse(self.limit.map(|whole| whole.0), self.cursor.as_deref())
    }
}

fn whole_or(value: Option<Whole>, default: i64) -> i64 {
    value.map_or(default, |whole| whole.0)
}
