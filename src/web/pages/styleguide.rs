//! `/styleguide`: every component in every state, for those who change them.

use actix_web::HttpResponse;
use askama::Template;

use super::commands::Progress;
use super::form::Form;
use super::html;
use super::mark::Mark;
use super::shell::{Frame, Place, Shell};
use crate::error::Result;

/// The page; its samples are in its template.
#[derive(Template)]
#[template(path = "pages/styleguide.html")]
pub struct StyleguidePage {
    pub shell: Shell,
    /// With one field right, one wrong.
    pub form: Form,
}

impl StyleguidePage {
    fn marks() -> [Mark; 5] {
        Mark::ALL
    }

    fn progresses() -> [Progress; 6] {
        Progress::ALL
    }
}

/// `GET /styleguide`, for administrators.
///
/// # Errors
/// Forbidden to everyone else.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    frame.ctx.require_admin()?;
    let mut form = Form::new()
        .with("sample_right", "dev-box")
        .with("sample_wrong", "Dev_Box");
    form.problem = Some("What is wrong with the whole form stands here".to_owned());
    form.refuse(
        "sample_wrong",
        "Must be lower-case letters, digits and hyphens",
    );
    html(&StyleguidePage {
        shell: frame.shell(Place::Styleguide, "Styleguide")?,
        form,
    })
}
