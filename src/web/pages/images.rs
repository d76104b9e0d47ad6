//! `/images`: what boxes start from, and how far those are that are being made.

use askama::Template;

use super::form::Form;
use super::say::When;
use super::shell::Shell;

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

impl ImageView {
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
#[template(path = "pages/images.html", block = "images")]
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
