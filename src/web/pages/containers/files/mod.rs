//! `/containers/{id}/files`: a box's files, to look through, fetch, put and change. Forms do all of
//! it (`forms.rs`); `static/js/files.js` adds dropping files and their progress.
//!
//! To show more of a file, add a field to [`Row`].

mod forms;

use std::cmp::Ordering;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

pub use self::forms::{chmod, delete, mkdir, rename, upload};
use super::detail::{self, Detail, Tab};
use crate::domain::files::{self, Content, FileInfo, FileKind, FileReader, ListRange};
use crate::error::{Error, Result};
use crate::web::download;
use crate::web::extract::Query;
use crate::web::pages::form::Form;
use crate::web::pages::say::{self, When};
use crate::web::pages::shell::{Frame, Shell};
use crate::web::pages::{html, refused};

/// Rows of a piece of the list.
const ROWS: usize = 500;
/// Largest file that is shown, in bytes.
const SHOWN: u64 = 256 * 1024;

/// By what the list is sorted; directories come first always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    #[default]
    Name,
    Size,
    Time,
}

impl Sort {
    fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Time => "time",
        }
    }
}

/// What of a box's files is looked at, and how.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Asked {
    path: Option<String>,
    #[serde(default)]
    sort: Sort,
    /// The other way round.
    #[serde(default)]
    reverse: bool,
    /// Names that begin with a dot, too.
    #[serde(default)]
    hidden: bool,
    /// The first row of the piece.
    #[serde(default)]
    from: usize,
    /// Where a directory goes on that has too many entries to be sorted at once.
    cursor: Option<String>,
}

impl Asked {
    fn at(path: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// With one slash between names, and none at the end.
    fn path(&self) -> String {
        let path = self.path.as_deref().unwrap_or("/");
        if !path.starts_with('/') {
            return path.to_owned();
        }
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        format!("/{}", names.join("/"))
    }
}

/// A part of the path, to go back to.
#[derive(Debug, Clone)]
pub struct Crumb {
    pub name: String,
    pub href: String,
}

/// A row of the list.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub path: String,
    pub href: String,
    pub kind: FileKind,
    pub size: String,
    pub mode: String,
    /// As `ls` has it.
    pub mode_words: String,
    pub owner: String,
    pub modified: When,
    pub target: Option<String>,
    /// Whether its menu is open, because what was asked there was refused.
    pub open: bool,
}

impl Row {
    fn of(frame: &Frame, page: &Place, info: FileInfo, open: Option<&str>) -> Self {
        let path = join(&page.path, &info.name);
        Self {
            href: page.href_at(&path),
            kind: info.kind,
            size: match info.kind {
                FileKind::File => say::bytes(info.size),
                _ => String::new(),
            },
            mode: format!("{:04o}", info.mode),
            mode_words: mode_words(info.mode),
            owner: owner(&info),
            modified: When {
                at: info.modified,
                now: frame.ctx.now().utc(),
            },
            target: info.target,
            open: open == Some(path.as_str()),
            name: info.name,
            path,
        }
    }

    #[must_use]
    pub fn icon(&self) -> &'static str {
        match self.kind {
            FileKind::Directory => "folder",
            FileKind::File => "file",
            FileKind::Symlink => "link",
            FileKind::Device | FileKind::Fifo | FileKind::Socket => "plug",
        }
    }

    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
}

/// Where we are in a box's files.
#[derive(Debug, Clone)]
pub struct Place {
    base: String,
    path: String,
    asked: Asked,
}

impl Place {
    fn new(id: &str, asked: Asked) -> Self {
        Self {
            base: format!("/containers/{id}/files"),
            path: asked.path(),
            asked,
        }
    }

    /// A path, looked at as `asked` says.
    fn href(&self, path: &str, asked: &Asked) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("path", path);
        if asked.sort != Sort::Name {
            query.append_pair("sort", asked.sort.as_str());
        }
        for (name, on) in [("reverse", asked.reverse), ("hidden", asked.hidden)] {
            if on {
                query.append_pair(name, "true");
            }
        }
        if asked.from > 0 {
            query.append_pair("from", &asked.from.to_string());
        }
        if let Some(cursor) = &asked.cursor {
            query.append_pair("cursor", cursor);
        }
        format!("{}?{}", self.base, query.finish())
    }

    /// Another path, from its beginning, looked at in the same way.
    fn href_at(&self, path: &str) -> String {
        let asked = Asked {
            from: 0,
            cursor: None,
            ..self.asked.clone()
        };
        self.href(path, &asked)
    }

    fn crumbs(&self) -> Vec<Crumb> {
        let mut path = String::new();
        let names = self.path.split('/').filter(|name| !name.is_empty());
        names
            .map(|name| {
                path = format!("{path}/{name}");
                Crumb {
                    name: name.to_owned(),
                    href: self.href_at(&path),
                }
            })
            .collect()
    }
}

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

fn download_href(place: &Place, path: &str, tar: bool) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("path", path);
    if tar {
        query.append_pair("tar", "true");
    }
    format!("{}/download?{}", place.base, query.finish())
}

/// A name in a directory; an absolute one is itself.
fn join(dir: &str, name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("{}/{name}", dir.trim_end_matches('/'))
    }
}

/// `rwxr-xr-x`, with the letters of `ls` for the other three bits.
fn mode_words(mode: u32) -> String {
    let bits = [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ];
    let mut words = String::with_capacity(9);
    for (shift, special, with, without) in bits {
        let three = mode >> shift;
        words.push(if three & 4 == 0 { '-' } else { 'r' });
        words.push(if three & 2 == 0 { '-' } else { 'w' });
        words.push(match (mode & special != 0, three & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    words
}

/// By number: names are the container's own affair, but root is root everywhere.
fn owner(info: &FileInfo) -> String {
    let name = |id: u32| match id {
        0 => "root".to_owned(),
        other => other.to_string(),
    };
    if info.uid == info.gid {
        name(info.uid)
    } else {
        format!("{}:{}", name(info.uid), name(info.gid))
    }
}

fn compare(a: &FileInfo, b: &FileInfo, sort: Sort) -> Ordering {
    let by_name = || {
        let folded = a.name.to_lowercase().cmp(&b.name.to_lowercase());
        folded.then_with(|| a.name.cmp(&b.name))
    };
    match sort {
        Sort::Name => by_name(),
        Sort::Size => a.size.cmp(&b.size).then_with(by_name),
        Sort::Time => a.modified.cmp(&b.modified).then_with(by_name),
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
        return Ok(download::file(&request, &info, reader));
    }
    let archive = files::archive(&frame.ctx, &id, path).await?;
    let name = path.unwrap_or_default();
    Ok(download::archive(&request, name, archive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_in_ls() {
        assert_eq!(mode_words(0o644), "rw-r--r--");
        assert_eq!(mode_words(0o4755), "rwsr-xr-x");
        assert_eq!(mode_words(0o1777), "rwxrwxrwt");
        assert_eq!(mode_words(0o2640), "rw-r-S---");
    }

    #[test]
    fn every_part_of_a_path_leads_somewhere() {
        let place = Place::new("x", Asked::at("//etc///a b/"));
        assert_eq!(place.path, "/etc/a b");
        let crumbs = place.crumbs();
        assert_eq!(crumbs[0].href, "/containers/x/files?path=%2Fetc");
        assert_eq!(crumbs[1].href, "/containers/x/files?path=%2Fetc%2Fa+b");
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "/b"), "/b");
    }
}
