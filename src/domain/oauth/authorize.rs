//! The question an application puts to a user, and the user's answer: a code, or a refusal.
//!
//! An application that cannot be trusted to be the one it says it is gets no answer of its own:
//! whatever is wrong with its question is told to the user, and nobody is sent anywhere (RFC 9700,
//! 4.11.2).
//!
//! To understand one more parameter, add it to [`Question`] and its rule to [`check`].

use chrono::TimeDelta;

use super::{apps, authorizations, redirect, requested, to_text};
use crate::auth::actor::{Credential, Scope};
use crate::auth::secrets;
use crate::db::oauth_apps::AppRow;
use crate::db::oauth_tokens::CodeRow;
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::ids::UserId;
use crate::error::{Error, Result};

/// Characters of a code.
pub(super) const CODE_LEN: usize = 43;
/// Characters of SHA-256 in base64url.
const CHALLENGE_LEN: usize = 43;
const MAX_STATE: usize = 4096;
/// The one method of PKCE: the other proves nothing to whoever sees the question.
pub const CHALLENGE_METHOD: &str = "S256";

/// What an application asks, as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub client_id: Option<String>,
    pub redirect_uri: Option<String>,
    pub response_type: Option<String>,
    pub state: Option<String>,
    pub scope: Option<String>,
    pub code_challenge: Option<String>,
    pub code_challenge_method: Option<String>,
    pub prompt: Option<String>,
}

/// A question that keeps the rules.
#[derive(Debug, Clone)]
pub struct Checked {
    app: AppRow,
    pub owner_name: String,
    pub redirect_uri: String,
    pub state: Option<String>,
    pub scopes: Vec<Scope>,
    pub code_challenge: Option<String>,
    /// The user is to be asked, even for what was allowed before.
    ask_again: bool,
}

impl Checked {
    #[must_use]
    pub fn app_name(&self) -> &str {
        &self.app.name
    }

    #[must_use]
    pub fn description(&self) -> &str {
        &self.app.description
    }

    /// The question in the form in which it can be put again.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("client_id", self.app.client_id.clone()),
            ("redirect_uri", self.redirect_uri.clone()),
            ("response_type", "code".to_owned()),
            ("scope", to_text(&self.scopes)),
        ];
        all.extend(self.state.clone().map(|state| ("state", state)));
        if let Some(challenge) = &self.code_challenge {
            all.push(("code_challenge", challenge.clone()));
            all.push(("code_challenge_method", CHALLENGE_METHOD.to_owned()));
        }
        if self.ask_again {
            all.push(("prompt", "consent".to_owned()));
        }
        all
    }

    fn answer(&self, ctx: &Ctx, first: (&str, &str)) -> String {
        let issuer = ctx.app().config.public_origin();
        let mut parameters = vec![first];
        parameters.extend(self.state.as_deref().map(|state| ("state", state)));
        parameters.push(("iss", issuer.as_str()));
        redirect::with(&self.redirect_uri, &parameters)
    }
}

fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_LEN
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn required<'a>(name: &str, value: Option<&'a String>) -> Result<&'a str> {
    match value {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(Error::BadRequest(format!("{name} is required"))),
    }
}

fn require_registered(app: &AppRow, redirect_uri: &str) -> Result<()> {
    if apps::redirect_uris(app)
        .iter()
        .any(|uri| uri == redirect_uri)
    {
        return Ok(());
    }
    Err(Error::field(
        "redirect_uri",
        "redirect_uri must be exactly one of those that the application has registered",
    ))
}

fn check_in(conn: &mut Conn, question: &Question) -> Result<Checked> {
    if question.response_type.as_deref() != Some("code") {
        return Err(Error::field(
            "response_type",
            "response_type must be \"code\"",
        ));
    }
    let client_id = required("client_id", question.client_id.as_ref())?;
    let redirect_uri = required("redirect_uri", question.redirect_uri.as_ref())?;
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let (state, code_challenge) = (given(&question.state), given(&question.code_challenge));
    let method = given(&question.code_challenge_method);
    // Either binds the answer to the browser that asked (RFC 9700, 2.1).
    if state.is_none() && code_challenge.is_none() {
        return Err(Error::BadRequest("state is required".into()));
    }
    let (app, owner_name) = apps::by_client(conn, client_id)?;
    require_registered(&app, redirect_uri)?;
    if state.as_ref().is_some_and(|state| state.len() > MAX_STATE) {
        return Err(Error::field("state", "state must be at most 4096 bytes"));
    }
    match (&code_challenge, method.as_deref()) {
        (None, None) if app.public => {
            return Err(Error::field(
                "code_challenge",
                "code_challenge is required for public applications",
            ));
        }
        (None, None) => {}
        (None, Some(_)) => {
            return Err(Error::field(
                "code_challenge",
                "code_challenge is required with code_challenge_method",
            ));
        }
        // Without a method RFC 7636 means the challenge to be the verifier itself.
        (Some(_), Some(CHALLENGE_METHOD)) => {}
        (Some(_), _) => {
            return Err(Error::field(
                "code_challenge_method",
                "code_challenge_method must be \"S256\"",
            ));
        }
    }
    if code_challenge
        .as_ref()
        .is_some_and(|text| !is_challenge(text))
    {
        return Err(Error::field(
            "code_challenge",
            "code_challenge must be 43 characters of base64url: the SHA-256 of the code_verifier",
        ));
    }
    let scopes = requested(question.scope.as_deref()).map_err(|_| {
        let all: Vec<&str> = Scope::ALL.iter().map(|s| s.as_str()).collect();
        Error::field(
            "scope",
            format!(
                "scope must consist of {}, with spaces between",
                all.join(", ")
            ),
        )
    })?;
    let prompt = question.prompt.as_deref().unwrap_or_default();
    Ok(Checked {
        redirect_uri: redirect_uri.to_owned(),
        ask_again: prompt.split(' ').any(|word| word == "consent")
            // Any program on the device can say that it is this one (RFC 8252, 8.6).
            || redirect::is_claimable(redirect_uri),
        app,
        owner_name,
        state,
        scopes,
        code_challenge,
    })
}

/// As [`check_in`], with the application held until the transaction ends.
fn check_held(conn: &mut Conn, question: &Question) -> Result<Checked> {
    let checked = check_in(conn, question)?;
    let app = db::oauth_apps::hold(conn, &checked.app.id)?
        .ok_or_else(|| Error::NotFound("There is no application with this client_id".into()))?;
    // Its owner may have taken the address off it between the two reads.
    require_registered(&app, &checked.redirect_uri)?;
    Ok(Checked { app, ..checked })
}

/// Whether the question keeps the rules; asked before anybody is.
///
/// # Errors
/// [`Error::NotFound`] for an unknown application; validation errors for the rest.
pub async fn check(ctx: &Ctx, question: Question) -> Result<Checked> {
    ctx.db().read(move |conn| check_in(conn, &question)).await
}

/// What comes of a question before the user is asked.
pub enum Asked {
    /// The user is to be asked.
    Open(Box<Checked>),
    /// The user has allowed it before: where to send the browser.
    Answered { redirect_url: String },
}

/// Puts the question, unless the signed-in user has answered it before.
///
/// # Errors
/// As [`check`]; [`Error::Forbidden`] for a token.
pub async fn ask(ctx: &Ctx, question: Question) -> Result<Asked> {
    let user = user_of_session(ctx)?;
    let (inner, asked, asker) = (ctx.clone(), question.clone(), user.clone());
    let (checked, known) = ctx
        .db()
        .read(move |conn| {
            let checked = check_in(conn, &asked)?;
            let known = !checked.ask_again
                && authorizations::covers(conn, &asker, &checked.app.id, &checked.scopes)?;
            Ok((checked, known))
        })
        .await?;
    if !known {
        return Ok(Asked::Open(Box::new(checked)));
    }
    ctx.db()
        .write(move |conn| {
            let checked = check_held(conn, &question)?;
            // It may have been taken back since it was read, and is not given again unasked.
            if !authorizations::covers(conn, &user, &checked.app.id, &checked.scopes)? {
                return Ok(Asked::Open(Box::new(checked)));
            }
            let redirect_url = approve(conn, &inner, &user, &checked)?;
            Ok(Asked::Answered { redirect_url })
        })
        .await
}

/// The signed-in user's answer; answers the address to send the browser to.
///
/// # Errors
/// As [`check`]; [`Error::Forbidden`] for a token.
pub async fn decide(ctx: &Ctx, question: Question, approved: bool) -> Result<String> {
    match decide_once(ctx, question.clone(), approved).await {
        // Another answer to the same question was quicker, and is there now.
        Err(Error::Conflict(_)) => decide_once(ctx, question, approved).await,
        answer => answer,
    }
}

async fn decide_once(ctx: &Ctx, question: Question, approved: bool) -> Result<String> {
    let user = user_of_session(ctx)?;
    let inner = ctx.clone();
    ctx.db()
        .write(move |conn| {
            let checked = check_held(conn, &question)?;
            if approved {
                return approve(conn, &inner, &user, &checked);
            }
            audit::record(conn, &inner, event(Action::OauthDeny, &checked))?;
            Ok(checked.answer(&inner, ("error", "access_denied")))
        })
        .await
}

/// Gives a code to an application that is held; answers the address to send the browser to.
fn approve(conn: &mut Conn, ctx: &Ctx, user: &UserId, checked: &Checked) -> Result<String> {
    authorizations::remember(conn, ctx, user, &checked.app, &checked.scopes)?;
    let code = give_code(conn, ctx, user, checked)?;
    audit::record(conn, ctx, event(Action::OauthAuthorize, checked))?;
    Ok(checked.answer(ctx, ("code", &code)))
}

fn event(action: Action, checked: &Checked) -> Event {
    Event::success(action)
        .with("subject", checked.app.id.as_str())
        .with("name", checked.app.name.as_str())
        .with("scopes", to_text(&checked.scopes))
}

fn give_code(conn: &mut Conn, ctx: &Ctx, user: &UserId, checked: &Checked) -> Result<String> {
    let code = secrets::random_base62(CODE_LEN, &*ctx.app().entropy);
    let now = ctx.now();
    let row = CodeRow {
        hash: secrets::hash(&code),
        app_id: checked.app.id.clone(),
        user_id: user.clone(),
        redirect_uri: checked.redirect_uri.clone(),
        scopes: to_text(&checked.scopes),
        code_challenge: checked.code_challenge.clone(),
        family_id: None,
        created_at: now,
        expires_at: now.plus(TimeDelta::minutes(super::CODE_MINUTES)),
        used_at: None,
    };
    db::oauth_tokens::insert_code(conn, &row)?;
    Ok(code)
}

/// Only a person can allow something: never a token, whatever it may do.
fn user_of_session(ctx: &Ctx) -> Result<UserId> {
    let caller = ctx.caller()?;
    match &caller.credential {
        Credential::Session { .. } => Ok(caller.user_id.clone()),
        Credential::PersonalToken { .. } | Credential::OauthToken { .. } => Err(Error::Forbidden(
            "This endpoint needs a signed-in session".into(),
        )),
    }
}
