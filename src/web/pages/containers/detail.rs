//! `/containers/{id}` and its tabs. A tab that the one who looks may not use is not shown.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::BoxView;
use super::usage::{self, Usage};
use crate::domain::page::PageRequest;
use crate::domain::{commands, containers};
use crate::error::{Error, Result};
use crate::web::extract::Query;
use crate::web::pages::activity::{self, Entry};
use crate::web::pages::commands::CommandView;
use crate::web::pages::form::Form;
use crate::web::pages::mark::Mark;
use crate::web::pages::shell::{Frame, Place, Shell};
use crate::web::pages::{html, refused, say};

/// Which tab is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Terminal,
    Commands,
    Files,
    Console,
    Settings,
}

impl Tab {
    /// Every tab.
    pub const ALL: [Self; 6] = [
        Self::Overview,
        Self::Terminal,
        Self::Commands,
        Self::Files,
        Self::Console,
        Self::Settings,
    ];

    /// As in the address.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Terminal => "terminal",
            Self::Commands => "commands",
            Self::Files => "files",
            Self::Console => "console",
            Self::Settings => "settings",
        }
    }
}

/// What all tabs have: the box, and which one is open.
#[derive(Debug, Clone)]
pub struct Detail {
    pub container: BoxView,
    pub tab: Tab,
}

impl Detail {
    #[must_use]
    pub fn at(&self, tab: Tab) -> bool {
        self.tab == tab
    }

    /// `dev-box · running`.
    #[must_use]
    pub fn title(&self) -> String {
        format!(
            "{} · {}",
            self.container.hostname,
            self.container.state.as_str()
        )
    }

    /// How often to look again, in seconds.
    #[must_use]
    pub fn pace(&self) -> u8 {
        if self.container.state.is_passing() {
            1
        } else {
            5
        }
    }
}

/// The first tab: what it uses, what it is, what was run lately.
#[derive(Template)]
#[template(path = "pages/container_overview.html")]
pub struct OverviewPage {
    pub shell: Shell,
    pub detail: Detail,
    pub usage: Option<Usage>,
    pub recent: Vec<CommandView>,
    pub entries: Vec<Entry>,
    pub public_url: String,
}

impl OverviewPage {
    fn curl(&self) -> String {
        format!(
            "curl {}/api/v1/containers/{}/commands \\\n  -H \"Authorization: Bearer $HZEL_TOKEN\" \\\n  \
             -H 'Content-Type: application/json' \\\n  -d '{{\"command\":\"uname -a\"}}'",
            self.public_url, self.detail.container.id
        )
    }
}

/// The header alone, fetched again and again on every tab.
#[derive(Template)]
#[template(path = "components/box_head.html")]
pub struct HeadFragment {
    pub shell: Shell,
    pub detail: Detail,
}

/// The meters alone.
#[derive(Template)]
#[template(path = "components/usage.html")]
pub struct UsageFragment {
    pub detail: Detail,
    pub usage: Option<Usage>,
}

/// The second tab: a box to type a command into, and those that were run.
#[derive(Template)]
#[template(path = "pages/container_commands.html")]
pub struct CommandsPage {
    pub shell: Shell,
    pub detail: Detail,
    pub form: Form,
    pub commands: Vec<CommandView>,
    /// The address of this piece of the list.
    pub here: String,
    pub next: Option<String>,
}

/// The list of commands alone.
#[derive(Template)]
#[template(path = "components/command_list.html")]
pub struct CommandsFragment {
    pub shell: Shell,
    pub commands: Vec<CommandView>,
    pub detail: Detail,
    pub here: String,
    pub next: Option<String>,
}

impl CommandsPage {
    /// The optional part is open when there is something in it to see.
    fn is_more_open(&self) -> bool {
        ["cwd", "user", "timeout_seconds"]
            .iter()
            .any(|name| !self.form.value(name).is_empty() || self.form.error(name).is_some())
    }

    fn has_open(&self) -> bool {
        self.commands
            .iter()
            .any(|command| command.progress.is_open())
    }
}

impl CommandsFragment {
    fn has_open(&self) -> bool {
        self.commands
            .iter()
            .any(|command| command.progress.is_open())
    }
}

/// The third tab: what the init wrote.
#[derive(Template)]
#[template(path = "pages/container_console.html")]
pub struct ConsolePage {
    pub shell: Shell,
    pub detail: Detail,
    pub console: String,
    pub lines: usize,
}

/// The console's text alone.
#[derive(Template)]
#[template(path = "components/console.html")]
pub struct ConsoleFragment {
    pub detail: Detail,
    pub console: String,
    pub lines: usize,
}

/// The last tab: what it is made of, and how to be rid of it.
#[derive(Template)]
#[template(path = "pages/container_settings.html")]
pub struct SettingsPage {
    pub shell: Shell,
    pub detail: Detail,
    pub form: Form,
}

impl SettingsPage {
    /// A box that is stuck can be removed without asking the engine nicely.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.detail.container.state, Mark::Failed | Mark::Deleting)
    }
}

/// What every tab begins with.
pub(super) async fn detail(frame: &Frame, id: &str, tab: Tab) -> Result<(Shell, Detail)> {
    let container = BoxView::of(frame, containers::get(&frame.ctx, id).await?);
    let detail = Detail { container, tab };
    let mut shell = frame.shell(Place::Containers, detail.title())?;
    shell.icon = detail.container.state.icon();
    Ok((shell, detail))
}

/// `GET /containers/{id}`.
///
/// # Errors
/// As `containers::get`.
pub async fn overview(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let (shell, detail) = detail(&frame, &id, Tab::Overview).await?;
    let recent = if detail.container.may.run_commands {
        let five = PageRequest::parse(Some(5), None)?;
        let page = commands::list(&frame.ctx, &id, Ok(five)).await?;
        page.items
            .into_iter()
            .map(|c| CommandView::of(&frame, c))
            .collect()
    } else {
        Vec::new()
    };
    let log = containers::activity(&frame.ctx, &id, 8).await?;
    let entries = activity::entries(&frame, log).await?;
    html(&OverviewPage {
        usage: usage::of(&frame, &detail.container).await,
        public_url: frame.public_url(),
        shell,
        detail,
        recent,
        entries,
    })
}

/// What the header is asked with.
#[derive(Debug, serde::Deserialize)]
pub struct AskedHead {
    #[serde(default)]
    tab: String,
}

/// `GET /containers/{id}/head`.
///
/// # Errors
/// As `containers::get`.
pub async fn head(
    frame: Frame,
    id: web::Path<String>,
    asked: Query<AskedHead>,
) -> Result<HttpResponse> {
    let tab = Tab::ALL.into_iter().find(|tab| tab.as_str() == asked.0.tab);
    let (shell, detail) = detail(&frame, &id, tab.unwrap_or(Tab::Overview)).await?;
    html(&HeadFragment { shell, detail })
}

/// `GET /containers/{id}/metrics`.
///
/// # Errors
/// As `containers::get`.
pub async fn metrics(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let (_, detail) = detail(&frame, &id, Tab::Overview).await?;
    html(&UsageFragment {
        usage: usage::of(&frame, &detail.container).await,
        detail,
    })
}

/// Which piece of the commands.
#[derive(Debug, serde::Deserialize)]
pub struct AskedCommands {
    cursor: Option<String>,
}

/// The fields of the form that runs a command.
pub const COMMAND_FIELDS: [&str; 4] = ["command", "cwd", "user", "timeout_seconds"];

/// `GET /containers/{id}/commands`.
///
/// # Errors
/// As `commands::list`.
pub async fn commands(
    frame: Frame,
    id: web::Path<String>,
    asked: Query<AskedCommands>,
) -> Result<HttpResponse> {
    let cursor = asked.0.cursor.as_deref();
    let page = commands_page(&frame, &id, Form::new(), cursor).await?;
    if !frame.part {
        return html(&page);
    }
    html(&CommandsFragment {
        shell: page.shell,
        commands: page.commands,
        detail: page.detail,
        here: page.here,
        next: page.next,
    })
}

/// The commands of a box whose form was refused.
///
/// # Errors
/// `error`, where a form cannot tell of it.
pub async fn commands_refused(
    frame: &Frame,
    id: &str,
    form: Form,
    error: Error,
) -> Result<HttpResponse> {
    let form = form.refused(&error, &COMMAND_FIELDS)?;
    refused(error, &commands_page(frame, id, form, None).await?)
}

async fn commands_page(
    frame: &Frame,
    id: &str,
    form: Form,
    cursor: Option<&str>,
) -> Result<CommandsPage> {
    let (shell, detail) = detail(frame, id, Tab::Commands).await?;
    let page = commands::list(&frame.ctx, id, PageRequest::parse(Some(30), cursor)).await?;
    // A cursor is base64url: nothing in it needs escaping.
    let address = |cursor: &str| format!("/containers/{id}/commands?cursor={cursor}");
    Ok(CommandsPage {
        shell,
        detail,
        form,
        commands: page
            .items
            .into_iter()
            .map(|c| CommandView::of(frame, c))
            .collect(),
        here: cursor.map_or_else(|| format!("/containers/{id}/commands"), address),
        next: page.next.as_deref().map(address),
    })
}

/// How much of the console.
#[derive(Debug, serde::Deserialize)]
pub struct AskedConsole {
    lines: Option<usize>,
}

/// `GET /containers/{id}/console`.
///
/// # Errors
/// As `containers::logs`.
pub async fn console(
    frame: Frame,
    id: web::Path<String>,
    asked: Query<AskedConsole>,
) -> Result<HttpResponse> {
    let lines = asked.0.lines.unwrap_or(500).clamp(1, 2_000);
    let (shell, detail) = detail(&frame, &id, Tab::Console).await?;
    let console = say::plain(&containers::logs(&frame.ctx, &id, Ok(lines)).await?);
    if frame.part {
        html(&ConsoleFragment {
            detail,
            console,
            lines,
        })
    } else {
        html(&ConsolePage {
            shell,
            detail,
            console,
            lines,
        })
    }
}

/// `GET /containers/{id}/settings`.
///
/// # Errors
/// As `containers::get`.
pub async fn settings(frame: Frame, id: web::Path<String>) -> Result<HttpResponse> {
    let (shell, detail) = detail(&frame, &id, Tab::Settings).await?;
    html(&SettingsPage {
        shell,
        detail,
        form: Form::new(),
    })
}

/// The settings of a box whose form was refused.
///
/// # Errors
/// `error`, where a form cannot tell of it.
pub async fn settings_refused(
    frame: &Frame,
    id: &str,
    form: Form,
    error: Error,
) -> Result<HttpResponse> {
    let form = form.refused(&error, &["confirm"])?;
    let (shell, detail) = detail(frame, id, Tab::Settings).await?;
    refused(
        error,
        &SettingsPage {
            shell,
            detail,
            form,
        },
    )
}
