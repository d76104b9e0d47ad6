//! `/tokens`: personal access tokens; a new one is shown once, on the page that answers its form.

use actix_web::{HttpResponse, web};
use askama::Template;
use chrono::TimeDelta;

use super::form::{Fields, Form};
use super::say::When;
use super::scopes::token_allows;
use super::shell::{Frame, Place, Shell};
use super::{html, refused, see_other};
use crate::auth::actor::Scope as Word;
use crate::domain::page::PageRequest;
use crate::domain::time::Time;
use crate::domain::tokens::{self, NewToken, Token};
use crate::error::{Error, Result};
use crate::web::extract;

/// A token, as the pages show it: never its secret.
#[derive(Debug, Clone)]
pub struct TokenView {
    pub id: String,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<String>,
    pub created: When,
    pub expires: Option<When>,
    pub last_used: Option<When>,
    pub expired: bool,
}

/// A scope that can be chosen, and what it allows.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    pub name: &'static str,
    pub allows: &'static str,
}

/// The list and the form.
#[derive(Template)]
#[template(path = "pages/tokens.html")]
pub struct TokensPage {
    pub shell: Shell,
    pub tokens: Vec<TokenView>,
    pub form: Form,
    pub scopes: Vec<Scope>,
    /// Whether a token can be made without the password being asked for first.
    pub proved: bool,
}

/// The one page that holds the secret.
#[derive(Template)]
#[template(path = "pages/token_created.html")]
pub struct TokenCreatedPage {
    pub shell: Shell,
    pub token: TokenView,
    pub secret: String,
    pub public_url: String,
}

impl TokenCreatedPage {
    /// `hzel-backup-script.txt`: only what every file system takes.
    fn file_name(&self) -> String {
        let name: String = self
            .token
            .name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        format!("hzel-{}.txt", name.trim_matches('-'))
    }

    fn curl(&self) -> String {
        format!(
            "export HZEL_TOKEN={}\ncurl -H \"Authorization: Bearer $HZEL_TOKEN\" {}/api/v1/auth/me",
            self.secret, self.public_url
        )
    }
}

impl TokenView {
    /// As this request sees it.
    #[must_use]
    pub fn of(frame: &Frame, token: Token) -> Self {
        let words = token.scopes.unwrap_or_default();
        Self {
            id: token.id.to_string(),
            name: token.name,
            prefix: token.prefix,
            scopes: words
                .into_iter()
                .map(|word| word.as_str().to_owned())
                .collect(),
            created: frame.when(token.created_at),
            expires: token.expires_at.map(|at| frame.when(at)),
            last_used: token.last_used_at.map(|at| frame.when(at)),
            expired: token.expires_at.is_some_and(|at| at <= frame.ctx.now()),
        }
    }
}

/// The scopes that mean something in this version.
fn scopes() -> Vec<Scope> {
    [
        Word::ContainersRead,
        Word::ContainersWrite,
        Word::Commands,
        Word::Terminal,
        Word::Profile,
    ]
    .into_iter()
    .map(|word| Scope {
        name: word.as_str(),
        allows: token_allows(word),
    })
    .collect()
}

/// The names of the form's fields.
const FIELDS: [&str; 3] = ["name", "expires_in", "scopes"];

async fn page(frame: &Frame, form: Form) -> Result<TokensPage> {
    let page = tokens::list(&frame.ctx, PageRequest::parse(Some(200), None)?).await?;
    Ok(TokensPage {
        shell: frame.shell(Place::Tokens, "Tokens")?,
        tokens: page
            .items
            .into_iter()
            .map(|token| TokenView::of(frame, token))
            .collect(),
        form,
        scopes: scopes(),
        proved: frame.is_proved().await?,
    })
}

/// `GET /tokens`.
///
/// # Errors
/// As `tokens::list`.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    html(&page(&frame, Form::new().with("expires_in", "90d")).await?)
}

/// `POST /tokens`: answers the page that shows the secret.
///
/// # Errors
/// As `tokens::create`.
pub async fn create(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let fields = fields.0;
    let chosen: Vec<String> = fields.all("scopes").map(str::to_owned).collect();
    let outcome = match expiry(frame.ctx.now(), fields.text("expires_in")) {
        Ok(expires_at) => {
            let new = NewToken {
                name: fields.text("name").to_owned(),
                expires_at,
                scopes: (!chosen.is_empty()).then_some(chosen),
            };
            tokens::create(&frame.ctx, new).await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok((token, Some(secret))) => html(&TokenCreatedPage {
            shell: frame.shell(Place::Tokens, token.name.clone())?,
            token: TokenView::of(&frame, token),
            secret,
            public_url: frame.public_url(),
        }),
        Ok((_, None)) => Ok(see_other("/tokens")),
        Err(error) => {
            let form = Form::new()
                .with_all(&fields, &FIELDS)
                .refused(&error, &FIELDS)?;
            refused(error, &page(&frame, form).await?)
        }
    }
}

/// When a token made now for `text` (`30d`, or nothing for never) expires.
fn expiry(now: Time, text: &str) -> Result<Option<Time>> {
    if text.is_empty() {
        return Ok(None);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    match days.filter(|days| (1..=3_650).contains(days)) {
        Some(days) => Ok(Some(now.plus(TimeDelta::days(days)))),
        None => Err(Error::field(
            "expires_in",
            "expires_in must be a number of days such as 30d",
        )),
    }
}

/// `POST /tokens/{id}/revoke`.
///
/// # Errors
/// As `tokens::revoke`.
pub async fn revoke(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    tokens::revoke(&frame.ctx, &id).await?;
    Ok(see_other("/tokens"))
}
