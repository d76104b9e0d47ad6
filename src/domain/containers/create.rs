//! Making a container: the input, its rules, and the transaction that promises it.
//!
//! To let a container have one more property: a field in [`NewContainer`], its rule in [`check`],
//! its column.

use super::{Container, ContainerState, DISK_GB, Wanted, limits, view};
use crate::db::containers::ContainerRow;
use crate::db::{self, Conn};
use crate::domain::audit::{self, Action, Event};
use crate::domain::ctx::Ctx;
use crate::domain::events::{self, Audience, Change};
use crate::domain::idempotency;
use crate::domain::ids::ContainerId;
use crate::domain::images::{self, ImageStatus};
use crate::domain::jobs::{self, JobKind, NewJob};
use crate::domain::permissions::Permissions;
use crate::error::{Error, FieldError, Result};

/// What is asked for, as it was sent.
#[derive(Debug, Clone)]
pub struct NewContainer {
    pub hostname: String,
    pub cpu_cores: i64,
    pub memory_mb: i64,
    pub disk_gb: i64,
    /// The default image when none.
    pub image: Option<String>,
    pub ssh_keys: Vec<String>,
    pub user_data: Option<String>,
}

impl Default for NewContainer {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            cpu_cores: 1,
            memory_mb: 512,
            disk_gb: DISK_GB.0,
            image: None,
            ssh_keys: Vec::new(),
            user_data: None,
        }
    }
}
/// A hostname: an RFC 1123 label in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// # Errors
    /// A validation error for `hostname`.
    pub fn parse(text: &str) -> Result<Self> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ok = (1..=63).contains(&text.len())
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::field(
                "hostname",
                "hostname must be 1 to 63 lower-case letters, digits and hyphens, with no hyphen \
                 at either end",
            ))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
/// A [`NewContainer`] that keeps the rules.
struct CheckedContainer {
    hostname: Hostname,
    cpu_cores: i32,
    memory_mb: i32,
    disk_gb: i32,
    image: Option<String>,
    ssh_keys: String,
    user_data: Option<String>,
}

fn check(ctx: &Ctx, new: NewContainer) -> Result<CheckedContainer> {
    let limits = limits(ctx);
    let mut wrong: Vec<FieldError> = Vec::new();
    let hostname = Hostname::parse(&new.hostname)
        .map_err(|e| wrong.extend(e.fields().iter().cloned()))
        .ok();
    let mut range = |field: &str, value: i64, low: i64, high: i64| {
        if !(low..=high).contains(&value) {
            let message = format!("{field} must be between {low} and {high}");
            wrong.push(FieldError {
                field: field.to_owned(),
                message,
            });
        }
        i32::try_from(value).unwrap_or_default()
    };
    let cpu_cores = range("cpu_cores", new.cpu_cores, 1, limits.cpu_max);
    let memory_mb = range(
        "memory_mb",
        new.memory_mb,
        limits.memory_min_mb,
        limits.memory_max_mb,
    );
    let disk_gb = range(
        "disk_gb",
        new.disk_gb,
        limits.disk_min_gb,
        limits.disk_max_gb,
    );
    let mut note = |field: &str, message: &str| {
        wrong.push(FieldError {
            field: field.to_owned(),
            message: message.to_owned(),
        });
    };
    let keys: Vec<&str> = new
        .ssh_keys
        .iter()
        .map(|key| key.trim())
        .filter(|key| !key.is_empty())
        .collect();
    if keys.len() > 50 || !keys.iter().all(|key| is_ssh_key(key)) {
        note(
            "ssh_keys",
            "ssh_keys must be at most 50 OpenSSH public keys, one a line each",
        );
    }
    if let Some(data) = &new.user_data
        && (data.len() > 64 * 1024 || data.contains('\0'))
    {
        note(
            "user_data",
            "user_data must be a script of at most 65536 bytes",
        );
    }
    match hostname {
        Some(hostname) if wrong.is_empty() => Ok(CheckedContainer {
            hostname,
            cpu_cores,
            memory_mb,
            disk_gb,
            image: new.image.filter(|image| !image.is_empty()),
            ssh_keys: keys.join("\n"),
            user_data: new.user_data.filter(|data| !data.is_empty()),
        }),
        _ => Err(Error::Validation(wrong)),
    }
}

fn is_ssh_key(key: &str) -> bool {
    let mut words = key.split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    let blob = words.next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    key.len() <= 8 * 1024
        && !key.chars().any(|c| c.is_control() && c != '\t')
        && known.iter().any(|prefix| kind.starts_with(prefix))
        && blob.len() >= 16
        && blob
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
}

fn resolve_image(conn: &mut Conn, asked: Option<&str>) -> Result<String> {
    let name = match asked {
        Some(name) => name.to_owned(),
        None => images::default_name(conn)?
            .ok_or_else(|| Error::Conflict("There is no default image yet".into()))?,
    };
    let unknown = || Error::field("image", "image must be one of those that GET /images lists");
    if name.contains('\0') {
        return Err(unknown());
    }
    db::images::share(conn, &name)?;
    let image = db::images::get(conn, &name)?.ok_or_else(unknown)?;
    // Without a size none was ever whole; with one, the last whole one serves on.
    if image.status == ImageStatus::Failed && image.size_bytes == 0 {
        return Err(Error::Conflict(format!(
            "Image {name} could not be made: {}",
            image.error.unwrap_or_default()
        )));
    }
    Ok(name)
}

/// Asks for a container; it is then made and started in the background.
///
/// # Errors
/// [`Error::Forbidden`] for who may not create, validation errors, [`Error::Conflict`] for a taken
/// hostname.
pub async fn create(ctx: &Ctx, new: NewContainer) -> Result<Container> {
    let caller = ctx.caller()?.clone();
    if !limits(ctx).may_create {
        return Err(Error::Forbidden(
            "You must be a member of a program that grants container creation access".into(),
        ));
    }
    let checked = check(ctx, new)?;
    let inner = ctx.clone();
    let made = ctx
        .db()
        .write(move |conn| {
            if let Some(first) = idempotency::replay::<Container>(conn, &inner)? {
                return Ok(first);
            }
            let image = resolve_image(conn, checked.image.as_deref())?;
            let taken = || Error::Conflict(format!("Hostname {} is taken", checked.hostname.0));
            // Asked first so that PostgreSQL's transaction lives on to say so in order.
            if db::containers::hostname_is_taken(conn, checked.hostname.as_str())? {
                return Err(taken());
            }
            let now = inner.now();
            let row = ContainerRow {
                id: ContainerId::new(now.utc()),
                user_id: caller.user_id.clone(),
                hostname: checked.hostname.as_str().to_owned(),
                image,
                node_name: inner.app().node_name.clone(),
                state: ContainerState::Provisioning,
                state_reason: None,
                wanted: Wanted::Running,
                cpu_cores: checked.cpu_cores,
                memory_mb: checked.memory_mb,
                disk_gb: checked.disk_gb,
                ipv4: None,
                ssh_keys: checked.ssh_keys,
                user_data: checked.user_data,
                created_at: now,
                updated_at: now,
                started_at: None,
            };
            match db::containers::insert(conn, &row) {
                Ok(()) => {}
                Err(e) if e.is_unique_violation() => {
                    return Err(Error::Conflict(format!(
                        "Hostname {} is taken",
                        row.hostname
                    )));
                }
                Err(e) => return Err(e.into()),
            }
            let job =
                NewJob::of_container(&inner, JobKind::ContainerCreate, &row.id, &row.node_name);
            jobs::queue(conn, &inner, &job)?;
            let event = Event::success(Action::ContainerCreate)
                .container(&row.id)
                .with("hostname", row.hostname.as_str());
            let change = Change::ContainerCreated {
                id: row.id.clone(),
                hostname: row.hostname.clone(),
                state: row.state,
            };
            let audience = Audience::of(conn, &row.id, &row.user_id)?;
            events::publish(conn, &inner, audience, change)?;
            let owned = (row, caller.display_name.clone(), caller.email.clone());
            let made = view(owned, Permissions::OWNER);
            idempotency::keep(conn, &inner, &made)?;
            audit::record(conn, &inner, event)?;
            Ok(made)
        })
        .await?;
    jobs::ring(ctx);
    Ok(made)
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_lower_case_labels() {
        for good in ["a", "web-1", "0x", &"a".repeat(63)] {
            assert!(Hostname::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "ä",
            "a b",
            "a\0",
            &"a".repeat(64),
        ] {
            assert!(Hostname::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ssh_keys_are_recognised() {
        assert!(is_ssh_key(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0b comment"
        ));
        assert!(!is_ssh_key(
            "command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0b"
        ));
        assert!(!is_ssh_key("hello"));
    }
}
