//! What surrounds every page of someone signed in: who looks, from which place, in which colours.
//!
//! To add a place to the rail, add it to [`Place`] and to `templates/app.html`.

use chrono::{DateTime, Utc};

use super::mark::Mark;
use super::say::When;

/// The version in the corner of every page.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where in the rail a page belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Containers,
    Images,
    Activity,
    Tokens,
    Profile,
    Sessions,
    Styleguide,
}

/// Light or dark, by the system's preference unless someone chose. The choice is a cookie, so that
/// the first byte of a page already has it and nothing flashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// The cookie that keeps the choice; its values are those of [`Theme::as_str`].
    pub const COOKIE: &'static str = "theme";

    /// The choice in a cookie or a form; anything unknown is the system's.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    /// As in the cookie, the form and `<html data-theme>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Who looks.
#[derive(Debug, Clone)]
pub struct Viewer {
    pub display_name: String,
    pub email: String,
    pub admin: bool,
}

/// The frame of a page for someone signed in.
#[derive(Debug, Clone)]
pub struct Shell {
    pub viewer: Viewer,
    /// Goes into every form of the page.
    pub csrf_token: String,
    pub place: Place,
    pub theme: Theme,
    /// Without the trailing "· hzel".
    pub title: String,
    /// The address of the tab's icon.
    pub icon: &'static str,
    /// The moment the page is about; all its relative times count from it.
    pub now: DateTime<Utc>,
}

impl Shell {
    /// Whether `place` is the one looked at, as `aria-current` wants it.
    #[must_use]
    pub fn at(&self, place: Place) -> bool {
        self.place == place
    }

    /// A time, as seen from this page's moment.
    #[must_use]
    pub fn when(&self, at: DateTime<Utc>) -> When {
        When { at, now: self.now }
    }
}

/// The frame of a page for someone who is not, or not known to be, signed in.
#[derive(Debug, Clone)]
pub struct Bare {
    pub theme: Theme,
    /// Without the trailing "· hzel".
    pub title: String,
    /// The address of the tab's icon.
    pub icon: &'static str,
}

impl Bare {
    /// A plain frame; the icon is hzel's own.
    #[must_use]
    pub fn new(theme: Theme, title: impl Into<String>) -> Self {
        Self {
            theme,
            title: title.into(),
            icon: crate::web::assets::url::MARKS_HZEL_SVG,
        }
    }

    /// The same, with the failed mark as icon.
    #[must_use]
    pub fn failed(theme: Theme, title: impl Into<String>) -> Self {
        Self {
            theme,
            title: title.into(),
            icon: Mark::Failed.icon(),
        }
    }
}
