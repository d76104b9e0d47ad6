//! `/containers/new`: a hostname, an image, a size, and the same as an API call.

use actix_web::HttpResponse;
use askama::Template;

use super::create_call;
use crate::domain::containers::{self, NewContainer};
use crate::domain::images::{self, Image, ImageStatus};
use crate::error::{Error, FieldError, Result};
use crate::web::extract;
use crate::web::pages::form::{Fields, Form};
use crate::web::pages::shell::{Frame, Place, Shell};
use crate::web::pages::{html, refused, say, see_other};

/// The page, fresh or refused.
#[derive(Template)]
#[template(path = "pages/new_container.html")]
pub struct NewContainerPage {
    pub shell: Shell,
    pub form: Form,
    pub images: Vec<ImageCard>,
    pub limits: Limits,
    pub public_url: String,
}

impl NewContainerPage {
    fn cpu_hint(&self) -> String {
        format!("1 to {}", self.limits.cpu_max)
    }

    fn cpu_range(&self) -> String {
        range(1, u64::from(self.limits.cpu_max))
    }

    fn memory_hint(&self) -> String {
        format!(
            "{} to {}",
            say::mebibytes(self.limits.memory_min_mb),
            say::mebibytes(self.limits.memory_max_mb)
        )
    }

    fn memory_range(&self) -> String {
        range(self.limits.memory_min_mb, self.limits.memory_max_mb)
    }

    fn disk_hint(&self) -> String {
        format!("{} to {}", self.limits.disk_min_gb, self.limits.disk_max_gb)
    }

    fn disk_range(&self) -> String {
        range(self.limits.disk_min_gb, self.limits.disk_max_gb)
    }

    /// The optional part is open when there is something in it to see.
    fn is_more_open(&self) -> bool {
        ["ssh_keys", "user_data"]
            .iter()
            .any(|name| !self.form.value(name).is_empty() || self.form.error(name).is_some())
    }

    fn curl(&self) -> String {
        let number = |name| self.form.value(name).parse::<u64>().unwrap_or_default();
        let mut body = serde_json::json!({
            "hostname": self.form.value("hostname"),
            "cpu_cores": number("cpu_cores"),
            "memory_mb": number("memory_mb"),
            "disk_gb": number("disk_gb"),
        });
        if !self.form.value("image").is_empty() {
            body["image"] = self.form.value("image").into();
        }
        create_call(&self.public_url, &body.to_string())
    }
}

/// The attributes of a number field: numbers only, so nothing in them needs escaping.
fn range(min: u64, max: u64) -> String {
    format!("required min=\"{min}\" max=\"{max}\"")
}

/// An image that can be chosen, or will be.
#[derive(Debug, Clone)]
pub struct ImageCard {
    pub name: String,
    /// What it is, or how far it is.
    pub about: String,
    /// A box can be asked for.
    pub usable: bool,
    pub size: Option<String>,
}

/// What this host lets one ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub cpu_max: u32,
    pub memory_min_mb: u64,
    pub memory_max_mb: u64,
    pub disk_min_gb: u64,
    pub disk_max_gb: u64,
    /// Whether the one who looks may make one at all.
    pub may_create: bool,
}

/// A size with a name.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    pub name: &'static str,
    pub cpu_cores: u32,
    pub memory_mb: u64,
    pub disk_gb: u64,
}

impl Preset {
    #[must_use]
    pub fn memory(&self) -> String {
        say::mebibytes(self.memory_mb)
    }
}

const PRESETS: [Preset; 4] = [
    Preset {
        name: "Nano",
        cpu_cores: 1,
        memory_mb: 256,
        disk_gb: 18,
    },
    Preset {
        name: "Small",
        cpu_cores: 1,
        memory_mb: 512,
        disk_gb: 18,
    },
    Preset {
        name: "Medium",
        cpu_cores: 2,
        memory_mb: 2_048,
        disk_gb: 24,
    },
    Preset {
        name: "Large",
        cpu_cores: 4,
        memory_mb: 8_192,
        disk_gb: 32,
    },
];

impl Limits {
    /// The presets that fit this host.
    #[must_use]
    pub fn presets(&self) -> Vec<Preset> {
        PRESETS
            .into_iter()
            .filter(|p| {
                p.cpu_cores <= self.cpu_max
                    && p.memory_mb <= self.memory_max_mb
                    && (self.disk_min_gb..=self.disk_max_gb).contains(&p.disk_gb)
            })
            .collect()
    }
}

/// First halves of proposed hostnames.
const KINDS: [&str; 16] = [
    "amber", "brisk", "calm", "clear", "dusky", "early", "fair", "green", "keen", "mellow",
    "north", "plain", "quick", "still", "tidy", "warm",
];
/// Second halves: trees and what grows under them.
const THINGS: [&str; 16] = [
    "alder", "ash", "aspen", "birch", "cedar", "elder", "fern", "hazel", "heath", "larch",
    "linden", "maple", "moss", "oak", "rowan", "willow",
];

/// A hostname to begin with, chosen by `seed`: `calm-hazel-42`.
#[must_use]
pub fn proposal(seed: u32) -> String {
    let pick = |words: &'static [&'static str; 16], part: u32| words[(part % 16) as usize];
    format!(
        "{}-{}-{}",
        pick(&KINDS, seed),
        pick(&THINGS, seed >> 4),
        (seed >> 8) % 90 + 10
    )
}

/// The names of the form's fields.
const FIELDS: [&str; 7] = [
    "hostname",
    "image",
    "cpu_cores",
    "memory_mb",
    "disk_gb",
    "ssh_keys",
    "user_data",
];

/// `GET /containers/new`.
///
/// # Errors
/// As `images::list`.
pub async fn show(frame: Frame) -> Result<HttpResponse> {
    let mut seed = [0; 4];
    frame.ctx.app().entropy.fill(&mut seed);
    let default = NewContainer::default();
    let form = Form::new()
        .with("hostname", proposal(u32::from_le_bytes(seed)))
        .with("cpu_cores", default.cpu_cores.to_string())
        .with("memory_mb", default.memory_mb.to_string())
        .with("disk_gb", default.disk_gb.to_string());
    html(&page(&frame, form).await?)
}

/// `POST /containers`.
///
/// # Errors
/// As `containers::create`.
pub async fn create(frame: Frame, fields: extract::Form<Fields>) -> Result<HttpResponse> {
    let fields = fields.0;
    let outcome = match asked(&fields) {
        Ok(new) => containers::create(&frame.ctx, new).await,
        Err(error) => Err(error),
    };
    let error = match outcome {
        Ok(container) => return Ok(see_other(&format!("/containers/{}", container.id))),
        // The one conflict that one field is to blame for.
        Err(Error::Conflict(message)) if message.starts_with("Hostname ") => {
            let mut form = Form::new().with_all(&fields, &FIELDS);
            form.refuse("hostname", message.clone());
            return refused(Error::Conflict(message), &page(&frame, form).await?);
        }
        Err(error) => error,
    };
    let form = Form::new()
        .with_all(&fields, &FIELDS)
        .refused(&error, &FIELDS)?;
    refused(error, &page(&frame, form).await?)
}

/// What the form asks for; a number left out is the default.
fn asked(fields: &Fields) -> Result<NewContainer> {
    let default = NewContainer::default();
    let mut wrong: Vec<FieldError> = Vec::new();
    let mut number = |name: &str, default: i64| match fields.number(name) {
        Ok(number) => number.unwrap_or(default),
        Err(error) => {
            wrong.extend(error.fields().iter().cloned());
            default
        }
    };
    let new = NewContainer {
        hostname: fields.text("hostname").trim().to_owned(),
        cpu_cores: number("cpu_cores", default.cpu_cores),
        memory_mb: number("memory_mb", default.memory_mb),
        disk_gb: number("disk_gb", default.disk_gb),
        image: fields.optional("image").map(str::to_owned),
        ssh_keys: fields
            .lines("ssh_keys")
            .lines()
            .map(str::to_owned)
            .collect(),
        user_data: Some(fields.lines("user_data")).filter(|text| !text.trim().is_empty()),
    };
    if wrong.is_empty() {
        Ok(new)
    } else {
        Err(Error::Validation(wrong))
    }
}

async fn page(frame: &Frame, mut form: Form) -> Result<NewContainerPage> {
    let images = images::list(&frame.ctx).await?;
    if form.value("image").is_empty()
        && let Some(default) = images
            .iter()
            .find(|i| i.is_default && i.status != ImageStatus::Failed)
    {
        form = form.with("image", default.name.clone());
    }
    let limits = containers::limits(&frame.ctx);
    let whole = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(NewContainerPage {
        shell: frame.shell(Place::Containers, "New container")?,
        form,
        images: images.into_iter().map(card).collect(),
        limits: Limits {
            cpu_max: u32::try_from(limits.cpu_max).unwrap_or(1),
            memory_min_mb: whole(limits.memory_min_mb),
            memory_max_mb: whole(limits.memory_max_mb),
            disk_min_gb: whole(limits.disk_min_gb),
            disk_max_gb: whole(limits.disk_max_gb),
            may_create: limits.may_create,
        },
        public_url: frame.public_url(),
    })
}

fn card(image: Image) -> ImageCard {
    ImageCard {
        about: match image.status {
            ImageStatus::Ready => image.description,
            ImageStatus::Preparing => format!(
                "Being made: {}, {} %. A container of it starts as soon as it is ready.",
                image.step, image.percent
            ),
            ImageStatus::Failed => "Could not be made".to_owned(),
        },
        usable: image.status != ImageStatus::Failed,
        size: size(image.size_bytes),
        name: image.name,
    }
}

/// The size of an image, once it is known.
fn size(bytes: i64) -> Option<String> {
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .map(say::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_labels() {
        for seed in [0, 1, 255, 65_535, u32::MAX] {
            let name = proposal(seed);
            assert!(
                name.len() <= 63
                    && name
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_small_host_offers_only_what_fits() {
        let limits = Limits {
            cpu_max: 2,
            memory_min_mb: 128,
            memory_max_mb: 4_096,
            disk_min_gb: 18,
            disk_max_gb: 32,
            may_create: true,
        };
        assert!(limits.presets().iter().all(|p| p.cpu_cores <= 2));
        assert_eq!(limits.presets().len(), 3);
    }
}
