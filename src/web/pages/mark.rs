//! The one small mark that says how a box is, wherever a box appears: in lists, titles, the tab's
//! icon and toasts. Each state has a shape of its own, so that none is told by colour alone.
//!
//! To add a state: a variant here, a shape in `templates/components/mark.html`, its colour in
//! `app.css`, an icon in `static/marks/`.

use crate::domain::containers::ContainerState;
use crate::web::assets::url;

/// How a box is, as the pages draw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Provisioning,
    Running,
    Stopped,
    Failed,
    Deleting,
}

impl Mark {
    /// Every mark, in the order in which a person would want to hear of them.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Provisioning,
        Self::Stopped,
        Self::Failed,
        Self::Deleting,
    ];

    /// The API's word for it, also the page's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }

    /// The address of the tab's icon.
    #[must_use]
    pub fn icon(self) -> &'static str {
        match self {
            Self::Provisioning => url::MARKS_PROVISIONING_SVG,
            Self::Running => url::MARKS_RUNNING_SVG,
            Self::Stopped => url::MARKS_STOPPED_SVG,
            Self::Failed => url::MARKS_FAILED_SVG,
            Self::Deleting => url::MARKS_DELETING_SVG,
        }
    }

    /// Whether it passes by itself, so that the page should look again soon.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Provisioning | Self::Deleting)
    }
}

impl From<ContainerState> for Mark {
    fn from(state: ContainerState) -> Self {
        match state {
            ContainerState::Provisioning => Self::Provisioning,
            ContainerState::Running => Self::Running,
            ContainerState::Stopped => Self::Stopped,
            ContainerState::Failed => Self::Failed,
            ContainerState::Deleting => Self::Deleting,
        }
    }
}
