//! What is done to one box from its pages: start, stop, restart, delete, run.
//!
//! To add an action, add a handler that makes one domain call and ends in [`done`] or
//! [`see_other`].

use actix_web::{HttpRequest, HttpResponse, web};

use super::detail;
use crate::domain::commands::{self, NewCommand};
use crate::domain::containers;
use crate::domain::permissions::Permissions;
use crate::error::{Error, Result};
use crate::web::extract::Form;
use crate::web::pages::form::{self, Fields};
use crate::web::pages::shell::Frame;
use crate::web::pages::{done, see_other};

/// `POST /containers/{id}/start`.
///
/// # Errors
/// As `containers::start`.
pub async fn start(
    frame: Frame,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    containers::start(&frame.ctx, &id).await?;
    Ok(done(&request, &format!("/containers/{id}")))
}

/// `POST /containers/{id}/stop`.
///
/// # Errors
/// As `containers::stop`.
pub async fn stop(
    frame: Frame,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    containers::stop(&frame.ctx, &id, false).await?;
    Ok(done(&request, &format!("/containers/{id}")))
}

/// `POST /containers/{id}/restart`.
///
/// # Errors
/// As `containers::restart`.
pub async fn restart(
    frame: Frame,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    containers::restart(&frame.ctx, &id).await?;
    Ok(done(&request, &format!("/containers/{id}")))
}

/// `POST /containers/{id}/delete`: wants the hostname in `confirm`.
///
/// # Errors
/// As `containers::delete`.
pub async fn delete(
    frame: Frame,
    id: web::Path<String>,
    fields: Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let container = containers::get(&frame.ctx, &id).await?;
    // Before the word that was typed is judged; the domain asks again.
    container.permissions.require(Permissions::DELETE)?;
    let outcome = if fields.text("confirm").trim() == container.hostname {
        containers::delete(&frame.ctx, &id, fields.text("force") == "true").await
    } else {
        let hostname = &container.hostname;
        Err(Error::field(
            "confirm",
            format!("confirm must be the hostname, {hostname}"),
        ))
    };
    match outcome {
        Ok(()) => Ok(see_other(&format!("/?deleted={}", container.hostname))),
        Err(error) => {
            let form = form::Form::new().with_all(&fields, &["confirm", "force"]);
            detail::settings_refused(&frame, &id, form, error).await
        }
    }
}

/// `POST /containers/{id}/commands`: runs a line in the box's shell.
///
/// # Errors
/// As `commands::create`.
pub async fn run(
    frame: Frame,
    id: web::Path<String>,
    fields: Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let outcome = match fields.number("timeout_seconds") {
        Ok(timeout_seconds) => {
            let owned = |name| fields.optional(name).map(str::to_owned);
            let new = NewCommand {
                command: Some(fields.lines("command")),
                cwd: owned("cwd"),
                user: owned("user"),
                timeout_seconds,
                ..NewCommand::default()
            };
            commands::create(&frame.ctx, &id, new).await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(command) => Ok(see_other(&format!("/commands/{}", command.id))),
        Err(error) => {
            let form = form::Form::new().with_all(&fields, &detail::COMMAND_FIELDS);
            detail::commands_refused(&frame, &id, form, error).await
        }
    }
}
