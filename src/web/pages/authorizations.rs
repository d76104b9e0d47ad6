//! `/authorizations`: the applications one has allowed something, and taking it back.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::say::When;
use super::scopes::all_allowed;
use super::shell::{Frame, Place, Shell};
use super::{html, see_other};
use crate::domain::oauth::authorizations;
use crate::domain::page::PageRequest;
use crate::error::Result;

/// An application that may act for one, as the page shows it.
#[derive(Debug, Clone)]
pub struct AuthorizationView {
    pub app_id: String,
    pub name: String,
    pub owner_name: String,
    /// In plain words.
    pub may: Vec<&'static str>,
    pub created: When,
    pub last_used: Option<When>,
}

/// The list.
#[derive(Template)]
#[template(path = "pages/authorizations.html")]
pub struct AuthorizationsPage {
    pub shell: Shell,
    pub authorizations: Vec<AuthorizationView>,
}

/// `GET /authorizations`.
///
/// # Errors
/// As `authorizations::list`.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    let page = authorizations::list(&frame.ctx, PageRequest::parse(Some(200), None)?).await?;
    html(&AuthorizationsPage {
        shell: frame.shell(Place::Authorizations, "Authorized applications")?,
        authorizations: page
            .items
            .into_iter()
            .map(|authorization| AuthorizationView {
                app_id: authorization.app_id.to_string(),
                name: authorization.name,
                owner_name: authorization.owner_name,
                may: all_allowed(&authorization.scopes),
                created: frame.when(authorization.created_at),
                last_used: authorization.last_used_at.map(|at| frame.when(at)),
            })
            .collect(),
    })
}

/// `POST /authorizations/{app_id}/revoke`.
///
/// # Errors
/// As `authorizations::revoke`.
pub async fn revoke(frame: Frame, app_id: web::Path<String>) -> Result<HttpResponse> {
    authorizations::revoke(&frame.ctx, &app_id).await?;
    Ok(see_other("/authorizations"))
}
