//! `/containers/new`: a hostname, an image, a size, and the same as an API call.

use askama::Template;

use super::create_call;
use crate::web::pages::form::Form;
use crate::web::pages::say;
use crate::web::pages::shell::Shell;

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
    pub description: String,
    /// Nothing once it is ready; else what is being done, or what went wrong.
    pub waiting: Option<String>,
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
