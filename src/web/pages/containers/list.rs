//! `/`: every box one may see, one row each.

use actix_web::HttpResponse;
use askama::Template;

use super::usage;
use super::{BoxView, create_call};
use crate::domain::containers::{self, ContainerQuery, ContainerState, Hostname};
use crate::domain::page::PageRequest;
use crate::domain::unclaimed::{self, Unclaimed};
use crate::error::Result;
use crate::web::extract::Query;
use crate::web::pages::mark::Mark;
use crate::web::pages::say::When;
use crate::web::pages::shell::{Frame, Place, Shell};
use crate::web::pages::{html, say};

/// The whole page.
#[derive(Template)]
#[template(path = "pages/containers.html")]
pub struct ContainersPage {
    pub shell: Shell,
    pub list: List,
    /// The hostname of the box that was deleted just now.
    pub deleted: Option<String>,
    /// What is on the machine and in no row, and until when it is kept.
    pub unclaimed: Vec<(Unclaimed, When)>,
    /// Whether the one who looks may make one.
    pub may_create: bool,
    /// For the curl that does the same: `https://cloud.example.org`.
    pub public_url: String,
}

impl ContainersPage {
    fn curl(&self) -> String {
        create_call(&self.public_url, r#"{"hostname":"dev-box"}"#)
    }
}

/// The part that is fetched again and again.
#[derive(Template)]
#[template(path = "components/box_list.html")]
pub struct ContainersFragment {
    pub shell: Shell,
    pub list: List,
}

/// The rows, and what was asked for.
#[derive(Debug, Clone)]
pub struct List {
    pub boxes: Vec<BoxView>,
    pub q: String,
    pub state: Option<Mark>,
    /// The address of this list, with its filter.
    pub here: String,
    /// Whether what they use was measured.
    pub measured: bool,
    /// The address of the next page.
    pub next: Option<String>,
}

impl List {
    /// Whether anything narrows it.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        !self.q.is_empty() || self.state.is_some()
    }

    #[must_use]
    pub fn shows(&self, state: &Mark) -> bool {
        self.state == Some(*state)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// How many are in each state, those with any.
    #[must_use]
    pub fn counts(&self) -> Vec<(Mark, usize)> {
        Mark::ALL
            .into_iter()
            .map(|mark| (mark, self.boxes.iter().filter(|b| b.state == mark).count()))
            .filter(|(_, number)| *number > 0)
            .collect()
    }

    #[must_use]
    pub fn cpus(&self) -> u64 {
        self.boxes.iter().map(|b| u64::from(b.cpu_cores)).sum()
    }

    #[must_use]
    pub fn memory(&self) -> String {
        say::mebibytes(self.boxes.iter().map(|b| b.memory_mb).sum())
    }

    #[must_use]
    pub fn disk(&self) -> String {
        format!("{} GiB", self.boxes.iter().map(|b| b.disk_gb).sum::<u64>())
    }

    /// How often to look again, in seconds: soon while something is on its way.
    #[must_use]
    pub fn pace(&self) -> u8 {
        if self.boxes.iter().any(|b| b.state.is_passing()) {
            1
        } else {
            5
        }
    }
}

/// What narrows the list, as the filter sends it.
#[derive(Debug, serde::Deserialize)]
pub struct Asked {
    #[serde(default)]
    q: String,
    /// A state's word; anything else is all of them.
    #[serde(default)]
    state: String,
    cursor: Option<String>,
    /// The hostname of the box that was deleted just now.
    deleted: Option<String>,
}

impl Asked {
    /// The address of this list, or of the piece of it behind `cursor`.
    fn address(&self, cursor: Option<&str>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("q", self.q.as_str()),
            ("state", &self.state),
            ("cursor", cursor.unwrap_or_default()),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        if query.is_empty() {
            "/".to_owned()
        } else {
            format!("/?{query}")
        }
    }
}

/// `GET /`.
///
/// # Errors
/// As `containers::list`.
pub async fn show(frame: Frame, asked: Query<Asked>) -> Result<HttpResponse> {
    let asked = asked.0;
    let state = ContainerState::from_text(&asked.state);
    let query = ContainerQuery {
        state,
        q: Some(asked.q.trim().to_owned()),
        mine: false,
        page: PageRequest::parse(Some(100), asked.cursor.as_deref())?,
    };
    let page = containers::list(&frame.ctx, query).await?;
    // Only what can be one, and is no longer there: anybody may have written the address.
    let deleted = asked
        .deleted
        .as_deref()
        .and_then(|text| Hostname::parse(text).ok())
        .map(|hostname| hostname.as_str().to_owned())
        .filter(|hostname| !page.items.iter().any(|c| c.hostname == *hostname));
    let mut list = List {
        boxes: page
            .items
            .into_iter()
            .map(|c| BoxView::of(&frame, c))
            .collect(),
        state: state.map(Mark::from),
        here: asked.address(asked.cursor.as_deref()),
        next: page.next.map(|cursor| asked.address(Some(&cursor))),
        q: asked.q,
        measured: frame.part,
    };
    let shell = frame.shell(Place::Containers, "Containers")?;
    if frame.part {
        // The page comes without, so that it comes at once; its first look again brings them.
        let measured = list.boxes.iter().map(|b| usage::of(&frame, b));
        let measured = futures_util::future::join_all(measured).await;
        for (b, usage) in list.boxes.iter_mut().zip(measured) {
            b.usage = usage;
        }
        return html(&ContainersFragment { shell, list });
    }
    let unclaimed = unclaimed::list(&frame.ctx)?
        .into_iter()
        .map(|container| {
            let until = frame.when(container.until.into());
            (container, until)
        })
        .collect();
    html(&ContainersPage {
        shell,
        list,
        deleted,
        unclaimed,
        may_create: containers::limits(&frame.ctx).may_create,
        public_url: frame.public_url(),
    })
}

/// `GET /containers`, which nothing links to, but a reload of a refused form asks for.
///
/// # Errors
/// None.
pub async fn elsewhere() -> Result<HttpResponse> {
    Ok(crate::web::pages::see_other("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_keeps_the_filter() {
        let asked = |q: &str, state: &str| Asked {
            q: q.to_owned(),
            state: state.to_owned(),
            cursor: None,
            deleted: None,
        };
        assert_eq!(asked("", "").address(None), "/");
        assert_eq!(
            asked("a&b", "running").address(Some("x")),
            "/?q=a%26b&state=running&cursor=x"
        );
    }
}
