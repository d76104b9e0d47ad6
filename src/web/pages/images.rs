//! `/images`: what boxes start from, and how far those are that are being made.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::form::{Fields, Form};
use super::say::{self, When};
use super::shell::{Frame, Place, Shell};
use super::{html, refused, see_other};
use crate::domain::images::{self, Image, ImageStatus};
use crate::error::Result;
use crate::web::extract;

/// How an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Preparing,
    Ready,
    Failed,
}

impl Readiness {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// The tone of its badge, and the icon in it.
    #[must_use]
    pub fn tone(self) -> (&'static str, &'static str) {
        match self {
            Self::Preparing => ("wait", "clock"),
            Self::Ready => ("ok", "check"),
            Self::Failed => ("bad", "cross"),
        }
    }
}

/// An image, as the pages show it.
#[derive(Debug, Clone)]
pub struct ImageView {
    pub name: String,
    pub source: String,
    pub readiness: Readiness,
    /// What is being done, while it is prepared.
    pub step: String,
    /// 0 to 100.
    pub percent: u8,
    pub error: Option<String>,
    pub size: Option<String>,
    pub description: String,
    pub is_default: bool,
    pub created: When,
}

impl From<ImageStatus> for Readiness {
    fn from(status: ImageStatus) -> Self {
        match status {
            ImageStatus::Preparing => Self::Preparing,
            ImageStatus::Ready => Self::Ready,
            ImageStatus::Failed => Self::Failed,
        }
    }
}

impl ImageView {
    /// As this request sees it.
    #[must_use]
    pub fn of(frame: &Frame, image: Image) -> Self {
        let size = u64::try_from(image.size_bytes).unwrap_or_default();
        Self {
            name: image.name,
            source: image.source,
            readiness: image.status.into(),
            step: image.step,
            percent: u8::try_from(image.percent.clamp(0, 100)).unwrap_or_default(),
            error: image.error,
            size: (size > 0).then(|| say::bytes(size)),
            description: image.description,
            is_default: image.is_default,
            created: frame.when(image.created_at),
        }
    }

    /// Its name as part of an address.
    #[must_use]
    pub fn segment(&self) -> String {
        url::form_urlencoded::byte_serialize(self.name.as_bytes()).collect()
    }

    #[must_use]
    pub fn is_preparing(&self) -> bool {
        self.readiness == Readiness::Preparing
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "pages/images.html")]
pub struct ImagesPage {
    pub shell: Shell,
    pub images: Vec<ImageView>,
    pub form: Form,
}

/// The list alone.
#[derive(Template)]
#[template(path = "components/image_list.html")]
pub struct ImagesFragment {
    pub shell: Shell,
    pub images: Vec<ImageView>,
}

/// How often to look again, in seconds.
#[must_use]
pub fn pace(images: &[ImageView]) -> u8 {
    if images.iter().any(ImageView::is_preparing) {
        1
    } else {
        15
    }
}

async fn views(frame: &Frame) -> Result<Vec<ImageView>> {
    let images = images::list(&frame.ctx).await?;
    Ok(images
        .into_iter()
        .map(|image| ImageView::of(frame, image))
        .collect())
}

/// `GET /images`.
///
/// # Errors
/// As `images::list`.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    let shell = frame.shell(Place::Images, "Images")?;
    let images = views(&frame).await?;
    if frame.part {
        html(&ImagesFragment { shell, images })
    } else {
        html(&ImagesPage {
            shell,
            images,
            form: Form::new(),
        })
    }
}

/// `POST /images`.
///
/// # Errors
/// As `images::add`.
pub async fn add(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let fields = fields.0;
    let name = fields.text("name").trim();
    match images::add(&frame.ctx, name, fields.text("source")).await {
        Ok(_) => Ok(see_other("/images")),
        Err(error) => {
            let names = ["name", "source"];
            let form = Form::new()
                .with_all(&fields, &names)
                .refused(&error, &names)?;
            let shell = frame.shell(Place::Images, "Images")?;
            let images = views(&frame).await?;
            refused(
                error,
                &ImagesPage {
                    shell,
                    images,
                    form,
                },
            )
        }
    }
}

/// `POST /images/{name}/delete`.
///
/// # Errors
/// As `images::remove`.
pub async fn remove(frame: Frame, name: web::Path<String>) -> Result<HttpResponse> {
    images::remove(&frame.ctx, &name).await?;
    Ok(see_other("/images"))
}
