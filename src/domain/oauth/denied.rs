//! The audit log of what applications are refused: a secret, a code or a token that is not right.
//!
//! Whoever knows a `client_id`, which is no secret, can be refused as often as they like, and every
//! refusal has its entry. So an application's failures from one address are limited: past the limit
//! the answer is to wait, with one entry a wait. Whoever is not refused never waits, for the limit
//! counts, and is asked, after the secret was tried: a stranger cannot keep an application out.

use super::apps;
use super::refused::Refused;
use crate::domain::audit::{self, Action, Event, Outcome};
use crate::domain::ctx::Ctx;
use crate::error::Error;

/// Failures of an application from one address before it has to wait: a program that is being
/// written fails often.
const FREE: u32 = 60;

/// Audits what came of a request if that is a refusal, and answers it, or the limit's in its place.
/// Who is no application has no entry: names can be made up without end.
pub(super) async fn settle<T>(
    ctx: &Ctx,
    action: Action,
    client_id: Option<String>,
    outcome: std::result::Result<T, Refused>,
) -> std::result::Result<T, Refused> {
    let Some(client_id) = client_id else {
        return outcome;
    };
    let limiter = &ctx.app().limiter;
    let key = format!("client:{client_id}:{}", ctx.origin().address_text());
    let refused = match outcome {
        Ok(done) => {
            limiter.succeeded(&key);
            return Ok(done);
        }
        Err(refused) if refused.is_denial() => refused,
        Err(refused) => return Err(refused),
    };
    let found = ctx
        .db()
        .read(move |conn| match apps::by_client(conn, &client_id) {
            Ok((app, _)) => Ok(Some(app)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        })
        .await?;
    let Some(app) = found else {
        return Err(refused);
    };
    let event = Event::new(action, Outcome::Denied)
        .with("subject", app.id.as_str())
        .with("name", app.name.as_str());
    if let Err(limited) = limiter.attempt_with(&key, FREE, ctx.now()) {
        if limiter.is_news(&key) {
            let event = event.with("code", limited.code().as_str());
            audit::record_alone(ctx, event).await;
        }
        return Err(Refused::Failed(limited));
    }
    if !ctx.is_noted() {
        let event = event
            .with("code", refused.code().0)
            .with("reason", refused.description());
        audit::record_alone(ctx, event).await;
    }
    Err(refused)
}
