//! Probes: alive, and able to work.
//!
//! To make readiness depend on more, ask it in [`ready`].

use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::ctx::Ctx;
use crate::domain::setup;
use crate::error::Error;
use crate::web::reply::{Data, Reply};

/// The process answers.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    status: &'static str,
    version: &'static str,
}

/// What can be reached.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    status: &'static str,
    database: &'static str,
    runtime: &'static str,
}

/// # Errors
/// None.
pub async fn alive() -> Reply<Alive> {
    Ok(Data(Alive {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// # Errors
/// Internal without a database, RUNTIME_UNAVAILABLE without an engine.
pub async fn ready(app: web::Data<App>) -> Reply<Ready> {
    let ctx = Ctx::system(App::clone(&app), "probe");
    setup::is_needed(&ctx).await?;
    app.runtime.ready().await.map_err(Error::from_runtime)?;
    Ok(Data(Ready {
        status: "ready",
        database: app.db.engine(),
        runtime: app.runtime.name(),
    }))
}
