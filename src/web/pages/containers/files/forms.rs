//! The forms of a box's files: make, move, delete, chmod, put. To add one, add a handler that makes
//! one domain call and ends in [`answered`].

use actix_multipart::{Field, Multipart};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;

use super::place::{Asked, Place, join};
use super::render;
use crate::domain::files::{self, NewFile};
use crate::error::{Error, Result};
use crate::web::extract;
use crate::web::gate;
use crate::web::pages::form::{Fields, Form};
use crate::web::pages::see_other;
use crate::web::pages::shell::Frame;

/// Longest field of the upload's form that is not a file, in bytes.
const FIELD: usize = 8 * 1024;

/// What a form of the list came to: back to the list, or the form again with what is wrong.
async fn answered(
    frame: &Frame,
    id: &str,
    fields: &Fields,
    names: &[&'static str],
    outcome: Result<()>,
) -> Result<HttpResponse> {
    let asked = Asked::at(fields.text("dir"));
    let Err(error) = outcome else {
        return Ok(see_other(
            &Place::new(id, asked.clone()).href_at(&asked.path()),
        ));
    };
    let form = Form::new().with_all(fields, names);
    let form = form.refused(&shown(&error), names)?;
    render(frame, id, asked, form, fields.optional("path"), Some(error)).await
}

/// A failure as a form can tell it: what is wrong with the path is wrong with the name typed.
fn shown(error: &Error) -> Error {
    match error {
        Error::NotFound(text) => Error::Conflict(text.clone()),
        Error::Validation(wrong) => {
            let mut wrong = wrong.clone();
            for field in &mut wrong {
                for known in ["path: ", "from: "] {
                    if let Some(rest) = field.message.strip_prefix(known) {
                        field.message = format!("Not possible: {rest}");
                    }
                }
            }
            Error::Validation(wrong)
        }
        other => other.clone(),
    }
}

fn name(fields: &Fields, field: &'static str) -> Result<String> {
    let name = fields.optional(field);
    let name = name.ok_or_else(|| Error::field(field, format!("{field} must not be empty")))?;
    Ok(join(fields.text("dir"), name))
}

/// `POST /containers/{id}/files/mkdir`.
///
/// # Errors
/// As `files::make_dir`.
pub async fn mkdir(
    frame: Frame,
    id: web::Path<String>,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let made = match name(&fields, "name") {
        Ok(path) => files::make_dir(&frame.ctx, &id, Some(&path), false).await,
        Err(error) => Err(error),
    };
    answered(&frame, &id, &fields, &["name"], made.map(drop)).await
}

/// `POST /containers/{id}/files/move`.
///
/// # Errors
/// As `files::rename`.
pub async fn rename(
    frame: Frame,
    id: web::Path<String>,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let moved = match name(&fields, "to") {
        Ok(to) => files::rename(&frame.ctx, &id, fields.optional("path"), Some(&to), false).await,
        Err(error) => Err(error),
    };
    answered(&frame, &id, &fields, &["to"], moved).await
}

/// `POST /containers/{id}/files/chmod`.
///
/// # Errors
/// As `files::chmod`.
pub async fn chmod(
    frame: Frame,
    id: web::Path<String>,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let mode = fields.text("mode").trim();
    let changed = files::chmod(&frame.ctx, &id, fields.optional("path"), mode).await;
    answered(&frame, &id, &fields, &["mode"], changed.map(drop)).await
}

/// `POST /containers/{id}/files/delete`.
///
/// # Errors
/// As `files::remove`.
pub async fn delete(
    frame: Frame,
    id: web::Path<String>,
    fields: extract::Form<Fields>,
) -> Result<HttpResponse> {
    let fields = fields.0;
    let recursive = fields.text("recursive") == "true";
    let gone = files::remove(&frame.ctx, &id, fields.optional("path"), recursive).await;
    answered(&frame, &id, &fields, &["recursive"], gone).await
}

/// `POST /containers/{id}/files/upload`: for browsers without scripts. The form's token and the
/// directory come before the files.
///
/// # Errors
/// [`Error::CsrfRejected`] for a form without the session's token; as `files::put`.
pub async fn upload(
    frame: Frame,
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse> {
    let mut parts = Multipart::new(request.headers(), payload.into_inner());
    // The gate has seen one in a header.
    if !request.headers().contains_key("x-csrf-token") {
        let first = parts.next().await.and_then(std::result::Result::ok);
        let token = match first {
            Some(mut part) if part.name() == Some("csrf_token") => short(&mut part).await?,
            _ => return Err(Error::CsrfRejected),
        };
        gate::form_token_is_right(&frame.ctx, &token)?;
    }
    let mut dir = "/".to_owned();
    let mut outcome = Ok(());
    while let Some(part) = parts.next().await {
        let mut part = part.map_err(broken_off)?;
        match part.name() {
            Some("dir") => dir = short(&mut part).await?,
            Some("file") if outcome.is_ok() => {
                outcome = receive(&frame, &id, &dir, part).await;
                if outcome.is_err() {
                    // The rest need not come.
                    break;
                }
            }
            _ => {}
        }
    }
    let asked = Asked::at(&dir);
    match outcome {
        Ok(()) => Ok(see_other(
            &Place::new(&id, asked.clone()).href_at(&asked.path()),
        )),
        Err(error) => {
            let form = Form::new().refused(&shown(&error), &["file"])?;
            render(&frame, &id, asked, form, None, Some(error)).await
        }
    }
}

fn broken_off(_: actix_multipart::MultipartError) -> Error {
    Error::BadRequest("The form broke off or is no multipart form".into())
}

/// A field that is no file.
async fn short(part: &mut Field) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.next().await {
        bytes.extend_from_slice(&chunk.map_err(broken_off)?);
        if bytes.len() > FIELD {
            return Err(Error::BadRequest("A field of the form is too long".into()));
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::BadRequest("The form is not valid UTF-8".into()))
}

async fn receive(frame: &Frame, id: &str, dir: &str, part: Field) -> Result<()> {
    let sent = part
        .content_disposition()
        .and_then(|header| header.get_filename());
    // Some browsers send the whole path.
    let name = sent
        .and_then(|name| name.rsplit(['/', '\\']).next())
        .unwrap_or_default();
    if name.is_empty() {
        return Err(Error::field("file", "file must be chosen"));
    }
    let path = join(dir, name);
    let new = NewFile {
        path: Some(&path),
        ..NewFile::default()
    };
    let body = part.map(|chunk| chunk.map_err(broken_off));
    files::put(&frame.ctx, id, new, body).await.map(drop)
}
