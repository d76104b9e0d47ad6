//! Which entries of the log are asked for: the words as they were sent, and what they mean.
//!
//! To filter by one more thing, add it to [`LogQuery`], [`LogFilter::parse`] and
//! [`crate::db::audit::AuditFilter`].

use chrono::{DateTime, Datelike, Utc};

use super::{Action, Outcome};
use crate::db::audit::AuditFilter;
use crate::db::{self, Conn};
use crate::domain::ids::{ContainerId, UserId};
use crate::domain::time::Time;
use crate::domain::users::Email;
use crate::error::{Error, FieldError, Result};

/// The filters as they were sent; an empty text is as none.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// An id or an e-mail address.
    pub user: Option<String>,
    /// An id.
    pub container: Option<String>,
    /// One of [`Action`], or how several begin.
    pub action: Option<String>,
    /// A word of [`Outcome`].
    pub outcome: Option<String>,
    /// RFC 3339; included.
    pub from: Option<String>,
    /// RFC 3339; not included, so that one range ends where the next begins.
    pub to: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Who {
    Id(UserId),
    Email(Email),
}

/// What a [`LogQuery`] means.
#[derive(Debug, Default)]
pub(super) struct LogFilter {
    user: Option<Who>,
    container: Option<ContainerId>,
    actions: Option<Vec<Action>>,
    outcome: Option<Outcome>,
    from: Option<Time>,
    to: Option<Time>,
}

impl LogFilter {
    /// # Errors
    /// A validation error that names every filter that is not right.
    pub(super) fn parse(query: &LogQuery) -> Result<Self> {
        let mut wrong = Vec::new();
        let filter = Self {
            user: part(&mut wrong, "user", query.user.as_deref(), who),
            container: part(
                &mut wrong,
                "container",
                query.container.as_deref(),
                container,
            ),
            actions: part(&mut wrong, "action", query.action.as_deref(), actions),
            outcome: part(&mut wrong, "outcome", query.outcome.as_deref(), outcome),
            from: part(&mut wrong, "from", query.from.as_deref(), moment),
            to: part(&mut wrong, "to", query.to.as_deref(), moment),
        };
        if let (Some(from), Some(to)) = (filter.from, filter.to)
            && to < from
        {
            wrong.push(FieldError {
                field: "to".into(),
                message: "to must not be before from".into(),
            });
        }
        if wrong.is_empty() {
            Ok(filter)
        } else {
            Err(Error::Validation(wrong))
        }
    }

    /// The same in terms of rows; none when nobody has the address, so that no entry can fit.
    pub(super) fn resolve(self, conn: &mut Conn) -> Result<Option<AuditFilter>> {
        let user = match self.user {
            None => None,
            Some(Who::Id(id)) => Some(id),
            Some(Who::Email(email)) => match db::users::get_by_email(conn, email.as_str())? {
                Some(user) => Some(user.id),
                None => return Ok(None),
            },
        };
        let actions = self.actions.map(|all| {
            let words = all.into_iter().map(Action::as_str);
            words.collect()
        });
        Ok(Some(AuditFilter {
            user,
            container: self.container.map(|id| id.to_string()),
            actions,
            outcome: self.outcome,
            from: self.from,
            to: self.to,
        }))
    }
}

/// One filter; what is wrong with it goes to `wrong`.
fn part<T>(
    wrong: &mut Vec<FieldError>,
    field: &str,
    text: Option<&str>,
    parse: fn(&str) -> std::result::Result<T, &'static str>,
) -> Option<T> {
    let text = text.map(str::trim).filter(|text| !text.is_empty())?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(rule) => {
            wrong.push(FieldError {
                field: field.to_owned(),
                message: format!("{field} must be {rule}"),
            });
            None
        }
    }
}

fn who(text: &str) -> std::result::Result<Who, &'static str> {
    match (text.parse(), Email::parse(text)) {
        (Ok(id), _) => Ok(Who::Id(id)),
        (_, Ok(email)) => Ok(Who::Email(email)),
        _ => Err("a user's id or e-mail address"),
    }
}

fn container(text: &str) -> std::result::Result<ContainerId, &'static str> {
    text.parse().map_err(|_| "a container's id")
}

/// The action itself, or else all that begin so. One that nothing can be is a slip of the pen,
/// which an empty list would hide.
fn actions(text: &str) -> std::result::Result<Vec<Action>, &'static str> {
    if let Some(action) = Action::from_text(text) {
        return Ok(vec![action]);
    }
    let all = Action::ALL.iter().copied();
    let found: Vec<Action> = all.filter(|a| a.as_str().starts_with(text)).collect();
    if found.is_empty() {
        Err("an action such as container.start, or how some begin, such as container")
    } else {
        Ok(found)
    }
}

fn outcome(text: &str) -> std::result::Result<Outcome, &'static str> {
    Outcome::from_text(text).ok_or("success, failure or denied")
}

fn moment(text: &str) -> std::result::Result<Time, &'static str> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.with_timezone(&Utc))
        // SQLite compares times as texts, for which years need four digits.
        .filter(|at| (0..=9999).contains(&at.year()))
        .map(Time::from)
        .ok_or("a time such as 2030-01-31T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_itself_or_how_some_begin() {
        assert_eq!(
            actions("container.start").unwrap(),
            [Action::ContainerStart]
        );
        assert_eq!(actions("oauth.token").unwrap(), [Action::OauthToken]);
        let containers = actions("container").unwrap();
        assert!(containers.len() > 4);
        assert!(
            containers
                .iter()
                .all(|a| a.as_str().starts_with("container."))
        );
        for wrong in ["containers", "%", "Login", "container.starts"] {
            assert!(actions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_wrong_filter_is_named() {
        let text = |text: &str| Some(text.to_owned());
        let query = LogQuery {
            user: text("nobody"),
            container: text("box"),
            action: text("nothing"),
            outcome: text("fine"),
            from: text("yesterday"),
            to: text("9999-12-31T23:59:59-01:00"),
        };
        let error = LogFilter::parse(&query).unwrap_err();
        let fields: Vec<&str> = error.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(
            fields,
            ["user", "container", "action", "outcome", "from", "to"]
        );
        let backwards = LogQuery {
            from: text("2026-01-02T00:00:00Z"),
            to: text("2026-01-01T00:00:00Z"),
            ..LogQuery::default()
        };
        let error = LogFilter::parse(&backwards).unwrap_err();
        assert_eq!(error.message(), "to must not be before from");
        let empty = LogQuery {
            user: text(" "),
            ..LogQuery::default()
        };
        assert_eq!(LogFilter::parse(&empty).unwrap().user, None);
    }
}
