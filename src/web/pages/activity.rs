//! `/activity`: what was done, by whom, and what came of it. One's own; admins see everyone's.

use std::collections::HashMap;

use actix_web::HttpResponse;
use askama::Template;
use serde_json::Value;

use super::html;
use super::say::When;
use super::shell::{Frame, Place, Shell};
use crate::domain::audit::{self, AuditEntry};
use crate::domain::containers::{self, ContainerQuery};
use crate::domain::page::PageRequest;
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
    pub next: Option<String>,
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

/// Which piece of the log.
#[derive(Debug, serde::Deserialize)]
pub struct Asked {
    cursor: Option<String>,
}

/// `GET /activity`.
///
/// # Errors
/// As `audit::list`.
pub async fn show(frame: Frame, asked: Query<Asked>) -> Result<HttpResponse> {
    let request = PageRequest::parse(Some(50), asked.0.cursor.as_deref())?;
    let page = audit::list(&frame.ctx, frame.ctx.is_admin(), request).await?;
    html(&ActivityPage {
        shell: frame.shell(Place::Activity, "Activity")?,
        entries: entries(&frame, page.items).await?,
        next: page.next.map(|cursor| format!("/activity?cursor={cursor}")),
    })
}
