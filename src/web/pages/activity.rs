//! `/activity`: what was done, by whom, and what came of it. One's own; admins see everyone's, and
//! can look for some of it.
//!
//! To filter by one more thing, add its field to the template and its name to [`FILTERS`].

use std::collections::HashMap;

use actix_web::HttpResponse;
use askama::Template;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::form::{Fields, Form};
use super::say::When;
use super::shell::{Frame, Place, Shell};
use super::{html, refused};
use crate::domain::audit::{self, Action, AuditEntry, LogQuery, Outcome};
use crate::domain::containers::{self, ContainerQuery};
use crate::domain::page::{Page, PageRequest};
use crate::domain::users;
use crate::error::Result;
use crate::web::extract::Query;

/// An entry of the audit log, as the pages show it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: String,
    /// `container.start`.
    pub action: String,
    /// `success`, `failure` or `denied`.
    pub outcome: String,
    /// Who did it; nothing if nobody was signed in.
    pub who: Option<String>,
    /// What it was done to.
    pub target: Option<Target>,
    pub address: Option<String>,
    pub at: When,
}

/// What was acted upon.
#[derive(Debug, Clone)]
pub struct Target {
    pub label: String,
    /// Its page, if it has one still.
    pub href: Option<String>,
}

impl Entry {
    /// The tone of its badge, and the icon in it.
    #[must_use]
    pub fn tone(&self) -> (&'static str, &'static str) {
        match self.outcome.as_str() {
            "success" => ("ok", "check"),
            "denied" => ("warn", "slash"),
            _ => ("bad", "cross"),
        }
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "pages/activity.html")]
pub struct ActivityPage {
    pub shell: Shell,
    pub entries: Vec<Entry>,
    /// What an administrator looks for.
    pub form: Form,
    /// Whether that is anything.
    pub is_narrowed: bool,
    pub next: Option<String>,
}

impl ActivityPage {
    fn outcomes() -> &'static [Outcome] {
        Outcome::ALL
    }

    /// What can be asked for: every action, after the word that it and others begin with.
    fn actions() -> Vec<&'static str> {
        let mut words: Vec<&str> = Vec::new();
        for action in Action::ALL {
            let whole = action.as_str();
            for word in [whole.split('.').next().unwrap_or(whole), whole] {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words
    }
}

/// Entries of the log as the pages show them, with names where only ids were kept.
///
/// # Errors
/// As `containers::list` and `users::list`.
pub async fn entries(frame: &Frame, log: Vec<AuditEntry>) -> Result<Vec<Entry>> {
    let names = names(frame).await?;
    // What is gone is known by what the log says of it.
    let mut hosts: HashMap<String, Target> = HashMap::new();
    for entry in &log {
        let hostname = entry.metadata.get("hostname").and_then(Value::as_str);
        if let (Some(id), Some(hostname)) = (&entry.container_id, hostname) {
            hosts.insert(
                id.clone(),
                Target {
                    label: hostname.to_owned(),
                    href: None,
                },
            );
        }
    }
    if log.iter().any(|entry| entry.container_id.is_some()) {
        let page = PageRequest::parse(Some(200), None)?;
        let query = ContainerQuery {
            page,
            ..ContainerQuery::default()
        };
        for container in containers::list(&frame.ctx, query).await?.items {
            let href = Some(format!("/containers/{}", container.id));
            hosts.insert(
                container.id.to_string(),
                Target {
                    label: container.hostname,
                    href,
                },
            );
        }
    }
    Ok(log
        .into_iter()
        .map(|entry| view(frame, entry, &names, &hosts))
        .collect())
}

/// Names by user id: everyone's for an administrator, else one's own.
async fn names(frame: &Frame) -> Result<HashMap<String, String>> {
    if frame.ctx.is_admin() {
        let users = users::list(&frame.ctx).await?;
        return Ok(users
            .into_iter()
            .map(|u| (u.id.to_string(), u.display_name))
            .collect());
    }
    let caller = frame.ctx.caller()?;
    Ok([(caller.user_id.to_string(), caller.display_name.clone())].into())
}

fn view(
    frame: &Frame,
    entry: AuditEntry,
    names: &HashMap<String, String>,
    hosts: &HashMap<String, Target>,
) -> Entry {
    let fact = |name: &str| {
        entry
            .metadata
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let target = match &entry.container_id {
        Some(id) => Some(hosts.get(id).cloned().unwrap_or_else(|| Target {
            label: id.clone(),
            href: None,
        })),
        None => ["name", "email", "route"]
            .into_iter()
            .find_map(fact)
            .or_else(|| fact("subject").filter(|_| entry.action.starts_with("image.")))
            .map(|label| Target { label, href: None }),
    };
    let who = entry
        .user_id
        .as_ref()
        .and_then(|id| names.get(id.as_str()).cloned());
    Entry {
        id: entry.id.to_string(),
        outcome: entry.outcome.as_str().to_owned(),
        who: who.or_else(|| fact("actor").map(|actor| format!("hzel ({actor})"))),
        target,
        address: fact("address"),
        at: frame.when(entry.created_at),
        action: entry.action,
    }
}

/// The filters of an administrator, by their names in the address.
const FILTERS: [&str; 6] = ["user", "container", "action", "outcome", "from", "to"];

/// A moment as a browser's field for it has it, which knows no time zone and says UTC on the page,
/// in the form that the API takes too: `2026-11-22T14:03` becomes `2026-11-22T14:03:00Z`.
fn moment(text: &str) -> String {
    let seconds = match text.matches(':').count() {
        1 => ":00Z",
        _ => "Z",
    };
    let whole = format!("{text}{seconds}");
    if DateTime::parse_from_rfc3339(&whole).is_ok() {
        whole
    } else {
        text.to_owned()
    }
}

/// The way back: a browser's field shows nothing that has a time zone.
fn local(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => {
            let at = at.with_timezone(&Utc);
            let text = at.format("%Y-%m-%dT%H:%M:%S%.f").to_string();
            text.strip_suffix(":00").unwrap_or(&text).to_owned()
        }
        Err(_) => text.to_owned(),
    }
}

/// `GET /activity`. The filters are for administrators; who sees only what is their own has none.
///
/// # Errors
/// As `audit::list` and `audit::list_own`.
pub async fn show(frame: Frame, asked: Query<Fields>) -> Result<HttpResponse> {
    let fields = asked.0;
    let request = PageRequest::parse(None, fields.optional("cursor"))?;
    if !frame.ctx.is_admin() {
        let page = audit::list_own(&frame.ctx, request).await?;
        return html(&filled(&frame, page, Form::new(), &fields).await?);
    }
    let text = |name: &str| fields.optional(name).map(str::to_owned);
    let query = LogQuery {
        user: text("user"),
        container: text("container"),
        action: text("action"),
        outcome: text("outcome"),
        from: fields.optional("from").map(moment),
        to: fields.optional("to").map(moment),
    };
    let mut form = Form::new();
    for name in FILTERS {
        let typed = fields.text(name);
        let is_moment = matches!(name, "from" | "to");
        form = form.with(
            name,
            if is_moment {
                local(typed)
            } else {
                typed.to_owned()
            },
        );
    }
    match audit::list(&frame.ctx, query, request).await {
        Ok(page) => html(&filled(&frame, page, form, &fields).await?),
        Err(error) => {
            let form = form.refused(&error, &FILTERS)?;
            let none = Page {
                items: Vec::new(),
                next: None,
            };
            refused(error, &filled(&frame, none, form, &fields).await?)
        }
    }
}

async fn filled(
    frame: &Frame,
    page: Page<AuditEntry>,
    form: Form,
    fields: &Fields,
) -> Result<ActivityPage> {
    let asked = || {
        FILTERS
            .iter()
            .filter(|name| fields.optional(name).is_some())
    };
    let next = page.next.map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if frame.ctx.is_admin() {
            query.extend_pairs(asked().map(|name| (name, fields.text(name))));
        }
        query.append_pair("cursor", &cursor);
        format!("/activity?{}", query.finish())
    });
    Ok(ActivityPage {
        shell: frame.shell(Place::Activity, "Activity")?,
        entries: entries(frame, page.items).await?,
        is_narrowed: frame.ctx.is_admin() && asked().next().is_some(),
        form,
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_to_the_log_and_back() {
        for (typed, sent, shown) in [
            (
                "2026-11-22T14:03",
                "2026-11-22T14:03:00Z",
                "2026-11-22T14:03",
            ),
            (
                "2026-11-22T14:03:09",
                "2026-11-22T14:03:09Z",
                "2026-11-22T14:03:09",
            ),
            (
                "2026-11-22T14:03:09Z",
                "2026-11-22T14:03:09Z",
                "2026-11-22T14:03:09",
            ),
            (
                "2026-11-22T14:00:00+02:00",
                "2026-11-22T14:00:00+02:00",
                "2026-11-22T12:00",
            ),
            ("yesterday", "yesterday", "yesterday"),
        ] {
            assert_eq!(moment(typed), sent);
            assert_eq!(local(typed), shown);
        }
    }
}
