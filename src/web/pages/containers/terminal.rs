//! `/containers/{id}/terminal`: a shell in the browser, in its tab or, with `?bare=1`, in a window
//! of its own. What it does is in `static/js/terminal.js`.

use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use actix_web::{HttpResponse, web};
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::detail::{self, Detail, Tab};
use crate::domain::permissions::Permissions;
use crate::error::{Error, Result};
use crate::web::envelope;
use crate::web::extract::Query;
use crate::web::pages::html;
use crate::web::pages::mark::Mark;
use crate::web::pages::shell::{Frame, Shell};

/// What the address may say.
#[derive(Debug, serde::Deserialize)]
pub struct TerminalQuery {
    bare: Option<String>,
}

/// In its tab.
#[derive(Template)]
#[template(path = "pages/container_terminal.html")]
pub struct TerminalPage {
    pub shell: Shell,
    pub detail: Detail,
    /// What the styles that the terminal makes for itself are known by.
    pub nonce: String,
    pub bare: bool,
}

/// In a window of its own.
#[derive(Template)]
#[template(path = "pages/container_terminal_window.html")]
pub struct TerminalWindow {
    pub shell: Shell,
    pub detail: Detail,
    /// As [`TerminalPage::nonce`].
    pub nonce: String,
    pub bare: bool,
}

/// `GET /containers/{id}/terminal`.
///
/// # Errors
/// As `containers::get`; [`Error::Forbidden`] for who may not use it.
pub async fn show(
    frame: Frame,
    id: web::Path<String>,
    query: Query<TerminalQuery>,
) -> Result<HttpResponse> {
    let (shell, detail) = detail::detail(&frame, &id, Tab::Terminal).await?;
    if !detail.container.may.run_commands {
        Permissions::NONE.require(Permissions::TERMINAL)?;
    }
    let mut bytes = [0; 16];
    frame.ctx.app().entropy.fill(&mut bytes);
    let nonce = STANDARD.encode(bytes);
    let policy = envelope::policy_with_style(&nonce);
    let policy = HeaderValue::from_str(&policy).map_err(Error::internal)?;
    let bare = query.0.bare.is_some();
    let mut answer = if bare {
        html(&TerminalWindow {
            shell,
            detail,
            nonce,
            bare,
        })?
    } else {
        html(&TerminalPage {
            shell,
            detail,
            nonce,
            bare,
        })?
    };
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

impl TerminalPage {
    fn is_running(&self) -> bool {
        self.detail.container.state == Mark::Running
    }
}

impl TerminalWindow {
    fn is_running(&self) -> bool {
        self.detail.container.state == Mark::Running
    }
}
