//! Images.
//!
//! To show more of an image, extend [`ImageView`].

use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ctx::Ctx;
use crate::domain::images::{self, Image};
use crate::domain::page::Page;
use crate::error::Result;
use crate::web::api::PageQuery;
use crate::web::extract::{Json, Query};
use crate::web::reply::{Data, Listed, Reply};

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "name": "tools", "source": "/srv/images/tools.tar.zst" }))]
pub struct NewImageBody {
    /// 1 to 63 lower-case letters, digits, dots and hyphens.
    name: String,
    /// A registry reference, a tar file on the server, or `default` for the server's own
    /// distribution.
    source: String,
}

/// An image.
#[derive(Serialize, ToSchema)]
pub struct ImageView {
    id: String,
    name: String,
    source: String,
    /// `preparing`, `ready` or `failed`.
    status: &'static str,
    /// What is being done now.
    step: String,
    percent: i32,
    error: Option<String>,
    description: String,
    size_bytes: i64,
    is_default: bool,
    created_at: String,
}

impl From<Image> for ImageView {
    fn from(image: Image) -> Self {
        Self {
            id: image.id.to_string(),
            name: image.name,
            source: image.source,
            status: image.status.as_str(),
            step: image.step,
            percent: image.percent,
            error: image.error,
            description: image.description,
            size_bytes: image.size_bytes,
            is_default: image.is_default,
            created_at: image.created_at.rfc3339(),
        }
    }
}

/// # Errors
/// As `images::list`.
pub async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<ImageView>> {
    let request = query.0.parse()?;
    let page = Page::of(images::list(&ctx).await?, &request, |one| {
        one.id.to_string()
    });
    Ok(Listed(page.map(ImageView::from)))
}

/// # Errors
/// As `images::add`.
pub async fn add(ctx: Ctx, body: Json<NewImageBody>) -> Reply<ImageView> {
    Ok(Data(
        images::add(&ctx, &body.0.name, &body.0.source)
            .await?
            .into(),
    ))
}

/// # Errors
/// As `images::remove`.
pub async fn remove(ctx: Ctx, name: Path<String>) -> Reply<&'static str> {
    images::remove(&ctx, &name).await?;
    Ok(Data("deleted"))
}
