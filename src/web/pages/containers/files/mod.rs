//! `/containers/{id}/files`: a box's files, to look through, fetch, put and change. Forms do all of
//! it (`forms.rs`); `static/js/files.js` adds dropping files and their progress.
//!
//! To show more of a file, add a field to [`Row`]; to show something else, a page with its handler
//! here.

mod forms;
mod place;
mod row;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

pub use self::forms::{chmod, delete, mkdir, rename, upload};
use self::place::{Asked, Crumb, Place, Sort, download_href};
use self::row::{Row, compare};
use super::detail::{self, Detail, Tab};
use crate::domain::files::{self, Content, FileInfo, FileKind, FileReader, ListRange};
use crate::error::{Error, Result};
use crate::web::download;
use crate::web::extract::Query;
use crate::web::pages::form::Form;
use crate::web::pages::say;
use crate::web::pages::shell::{Frame, Shell};
use crate::web::pages::{html, refused};

/// Rows of a piece of the list.
const ROWS: usize = 500;
/// Largest file that is shown, in bytes.
const SHOWN: u64 = 256 * 1024;

/// A directory.
#[derive(Template)]
#[template(path = "pages/container_files.html")]
pub struct FilesPage {
    pub shell: Shell,
    pub detail: Detail,
    pub place: Place,
    pub rows: Vec<Row>,
    /// How many there are, the hidden ones included if they are shown.
    pub count: usize,
    pub hidden: usize,
    /// Where there are more than are counted: the cursor of those.
    pub rest: Option<String>,
    pub form: Form,
    /// Whether there is a list: the path leads to a directory, and the box runs.
    pub listed: bool,
    pub limit: String,
    pub limit_bytes: u64,
}

impl FilesPage {
    fn crumbs(&self) -> Vec<Crumb> {
        self.place.crumbs()
    }

    fn path(&self) -> &str {
        &self.place.path
    }

    fn root(&self) -> String {
        self.place.href_at("/")
    }

    fn up(&self) -> Option<String> {
        let (above, _) = self.place.path.rsplit_once('/')?;
        (self.place.path != "/").then(|| {
            self.place
                .href_at(if above.is_empty() { "/" } else { above })
        })
    }

    /// The same list by another column; by the same, the other way round.
    fn by(&self, sort: &str) -> String {
        let now = &self.place.asked;
        let sort = match sort {
            "size" => Sort::Size,
            "time" => Sort::Time,
            _ => Sort::Name,
        };
        let asked = Asked {
            sort,
            reverse: now.sort == sort && !now.reverse,
            from: 0,
            ..now.clone()
        };
        self.place.href(&self.place.path, &asked)
    }

    /// For `aria-sort`.
    fn direction(&self, sort: &str) -> &'static str {
        match (
            self.place.asked.sort.as_str() == sort,
            self.place.asked.reverse,
        ) {
            (false, _) => "none",
            (true, false) => "ascending",
            (true, true) => "descending",
        }
    }

    fn shows_hidden(&self) -> bool {
        self.place.asked.hidden
    }

    fn other_hidden(&self) -> String {
        let now = &self.place.asked;
        let asked = Asked {
            hidden: !now.hidden,
            from: 0,
            ..now.clone()
        };
        self.place.href(&self.place.path, &asked)
    }

    fn next(&self) -> Option<String> {
        let now = &self.place.asked;
        let from = now.from.saturating_add(ROWS);
        let asked = if from < self.count {
            Asked {
                from,
                ..now.clone()
            }
        } else {
            Asked {
                from: 0,
                cursor: Some(self.rest.clone()?),
                ..now.clone()
            }
        };
        Some(self.place.href(&self.place.path, &asked))
    }

    fn download(&self, path: &str, tar: bool) -> String {
        download_href(&self.place, path, tar)
    }
}

/// A file.
#[derive(Template)]
#[template(path = "pages/container_file.html")]
pub struct FilePage {
    pub shell: Shell,
    pub detail: Detail,
    pub place: Place,
    pub row: Row,
    /// Its content, if that is a text and not too long.
    pub text: Option<String>,
}

impl FilePage {
    fn crumbs(&self) -> Vec<Crumb> {
        self.place.crumbs()
    }

    fn root(&self) -> String {
        self.place.href_at("/")
    }

    fn download(&self) -> String {
        download_href(&self.place, &self.place.path, false)
    }
}

/// `GET /containers/{id}/files`.
///
/// # Errors
/// As `files::get`, but for what the page can tell itself.
pub async fn show(
    frame: Frame,
    id: web::Path<String>,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    render(&frame, &id, asked.0, Form::new(), None, None).await
}

/// The page; `failure` is why it is shown again, `open` the path whose menu that came from.
async fn render(
    frame: &Frame,
    id: &str,
    asked: Asked,
    form: Form,
    open: Option<&str>,
    failure: Option<Error>,
) -> Result<HttpResponse> {
    let (shell, detail) = detail::detail(frame, id, Tab::Files).await?;
    let place = Place::new(id, asked);
    let limit_bytes = frame.ctx.app().config.upload_limit;
    let mut page = FilesPage {
        shell,
        detail,
        place,
        rows: Vec::new(),
        count: 0,
        hidden: 0,
        rest: None,
        form,
        listed: false,
        limit: say::bytes(limit_bytes),
        limit_bytes,
    };
    let range = files::range(None, page.place.asked.cursor.as_deref());
    let content = files::get(&frame.ctx, id, Some(&page.place.path), range).await;
    let failure = match (content, failure) {
        (Ok(Content::File(info, reader)), None) => {
            return html(&file(frame, page, info, reader).await?);
        }
        (Ok(Content::File(..)), Some(failure)) => return Err(failure),
        (Ok(Content::Directory(listing)), failure) => {
            let asked = &page.place.asked;
            let mut entries = listing.items;
            let all = entries.len();
            if !asked.hidden {
                entries.retain(|info| !info.name.starts_with('.'));
            }
            entries.sort_by(|a, b| {
                let order = compare(a, b, asked.sort);
                let order = if asked.reverse {
                    order.reverse()
                } else {
                    order
                };
                let is_file = |info: &FileInfo| info.kind != FileKind::Directory;
                is_file(a).cmp(&is_file(b)).then(order)
            });
            page.hidden = all - entries.len();
            page.count = entries.len();
            page.rest = listing.next;
            page.listed = true;
            let piece = entries.into_iter().skip(asked.from).take(ROWS);
            page.rows = piece
                .map(|info| Row::of(frame, &page.place, info, open))
                .collect();
            failure
        }
        // The page says itself that it does not run.
        (Err(Error::Conflict(_)), None) => None,
        (Err(error), None) => {
            page.form = page.form.refused(&error, &[]).unwrap_or_else(|error| {
                let mut form = Form::new();
                form.problem = Some(error.message());
                form
            });
            if !matches!(error, Error::NotFound(_) | Error::Validation(_)) {
                return Err(error);
            }
            Some(error)
        }
        (Err(error @ Error::Forbidden(_)), _) => return Err(error),
        (Err(_), failure) => failure,
    };
    match failure {
        Some(failure) => refused(failure, &page),
        None => html(&page),
    }
}

async fn file(
    frame: &Frame,
    page: FilesPage,
    info: FileInfo,
    mut reader: Box<dyn FileReader>,
) -> Result<FilePage> {
    let mut bytes = Vec::new();
    while info.size <= SHOWN && bytes.len() as u64 <= SHOWN {
        let piece = reader.read_at(bytes.len() as u64, 64 * 1024).await;
        let piece = piece.map_err(Error::internal)?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    let is_text = info.size <= SHOWN && !bytes.contains(&0);
    let text = is_text.then(|| String::from_utf8(bytes).ok()).flatten();
    let (above, _) = page.place.path.rsplit_once('/').unwrap_or_default();
    let dir = Place {
        path: above.to_owned(),
        ..page.place.clone()
    };
    Ok(FilePage {
        row: Row::of(frame, &dir, info, None),
        shell: page.shell,
        detail: page.detail,
        place: page.place,
        text,
    })
}

/// What is fetched.
#[derive(Debug, serde::Deserialize)]
pub struct AskedDownload {
    path: Option<String>,
    #[serde(default)]
    tar: bool,
}

/// `GET /containers/{id}/files/download`.
///
/// # Errors
/// As `files::get` and `files::archive`.
pub async fn fetch(
    frame: Frame,
    request: HttpRequest,
    id: web::Path<String>,
    asked: Query<AskedDownload>,
) -> Result<HttpResponse> {
    let AskedDownload { path, tar } = asked.0;
    let path = path.as_deref();
    if !tar
        && let Content::File(info, reader) =
            files::get(&frame.ctx, &id, path, Ok(ListRange::default())).await?
    {
        return download::file(&request, &info, reader);
    }
    let archive = files::archive(&frame.ctx, &id, path).await?;
    let name = path.unwrap_or_default();
    Ok(download::archive(&request, name, archive))
}
