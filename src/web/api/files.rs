//! The files of containers.
//!
//! To show more of a file, extend [`FileView`].

use actix_web::http::header::{self, Accept, Header as _, Quality};
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse, Responder};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::ctx::Ctx;
use crate::domain::files::{self, Content, FileInfo, NewFile};
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::web::download;
use crate::web::extract::{self, Json, Query, QueryWhole};
use crate::web::reply::{Data, Listed, Reply};

/// A file, a directory, or what else has a name.
#[derive(Serialize, ToSchema)]
pub struct FileView {
    name: String,
    /// `file`, `directory`, `symlink`, `device`, `fifo` or `socket`.
    kind: &'static str,
    /// Bytes.
    size: u64,
    /// Four octal digits.
    mode: String,
    /// The container's number of its owner.
    uid: u32,
    /// The container's number of its group.
    gid: u32,
    modified_at: String,
    /// Where a symbolic link points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl From<FileInfo> for FileView {
    fn from(info: FileInfo) -> Self {
        Self {
            name: info.name,
            kind: info.kind.as_str(),
            size: info.size,
            mode: format!("{:04o}", info.mode),
            uid: info.uid,
            gid: info.gid,
            modified_at: Time::from(info.modified).rfc3339(),
            target: info.target,
        }
    }
}

/// `?path=&limit=&cursor=`.
#[derive(Debug, Deserialize)]
pub struct AtQuery {
    path: Option<String>,
    limit: Option<QueryWhole>,
    cursor: Option<String>,
}

/// `?path=&uid=&gid=&mode=`.
#[derive(Debug, Deserialize)]
pub struct PutQuery {
    path: Option<String>,
    uid: Option<QueryWhole>,
    gid: Option<QueryWhole>,
    mode: Option<String>,
}

/// `?path=&recursive=`.
#[derive(Debug, Deserialize)]
pub struct DeleteQuery {
    path: Option<String>,
    recursive: Option<bool>,
}

/// A directory to make.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "path": "/srv/www", "parents": true }))]
pub struct MkdirBody {
    /// Required; absolute.
    path: Option<String>,
    /// Makes those above it too; then one that is there is no error.
    parents: Option<bool>,
}

/// What to move, and where.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "from": "/root/notes.txt", "to": "/srv/www/notes.txt" }))]
pub struct MoveBody {
    /// Required; absolute.
    from: Option<String>,
    /// Required; absolute, the new name included.
    to: Option<String>,
    /// Over what has the name already; otherwise that is a conflict.
    overwrite: Option<bool>,
}

/// Permissions to set.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "path": "/srv/www/notes.txt", "mode": "0644" }))]
pub struct ChmodBody {
    /// Required; absolute.
    path: Option<String>,
    /// Three or four octal digits, such as `0644`.
    mode: String,
}

/// Whether a tar is asked for by name, and not less than JSON is.
fn accepts_tar(request: &HttpRequest) -> bool {
    let Ok(accept) = Accept::parse(request) else {
        return false;
    };
    let quality = |kinds: &[&str]| {
        accept
            .iter()
            .filter(|one| kinds.contains(&one.item.essence_str()))
            .map(|one| one.quality)
            .max()
    };
    let json = quality(&["application/json"]).or_else(|| quality(&["application/*", "*/*"]));
    quality(&[download::TAR]).is_some_and(|tar| tar > Quality::ZERO && Some(tar) >= json)
}

/// A file's bytes, a directory's entries, or a tar of either.
///
/// # Errors
/// As `files::get` and `files::archive`.
pub async fn get(
    ctx: Ctx,
    request: HttpRequest,
    id: Path<String>,
    query: Query<AtQuery>,
) -> Result<HttpResponse> {
    let AtQuery {
        path,
        limit,
        cursor,
    } = query.0;
    let path = path.as_deref().unwrap_or("/");
    let range = files::range(limit.map(|whole| whole.0), cursor.as_deref());
    if accepts_tar(&request) {
        let archive = files::archive(&ctx, &id, Some(path)).await?;
        return Ok(download::archive(&request, path, archive));
    }
    match files::get(&ctx, &id, Some(path), range).await? {
        Content::File(info, reader) => download::file(&request, &info, reader),
        Content::Directory(page) => Ok(Listed(page.map(FileView::from)).respond_to(&request)),
    }
}

/// # Errors
/// As `files::put`; [`Error::UnsupportedMediaType`] for a compressed body, of which nobody could say
/// whether it is to be kept so.
pub async fn put(
    ctx: Ctx,
    request: HttpRequest,
    id: Path<String>,
    query: Query<PutQuery>,
    mut payload: Payload,
) -> Reply<FileView> {
    let length = extract::announced(request.headers());
    let new = NewFile {
        path: query.0.path.as_deref(),
        uid: query.0.uid.map(|whole| whole.0),
        gid: query.0.gid.map(|whole| whole.0),
        mode: query.0.mode.as_deref(),
        length,
    };
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    let put = if encoding.is_some_and(|value| value != "identity") {
        Err(Error::UnsupportedMediaType {
            expected: "sent as it is, without a content encoding",
        })
    } else {
        let body = (&mut payload).map(|chunk| chunk.map_err(extract::broken_off));
        files::put(&ctx, &id, new, body).await
    };
    if put.is_err() {
        extract::drain(payload, length).await;
    }
    Ok(Data(put?.into()))
}

/// # Errors
/// As `files::remove`.
pub async fn delete(ctx: Ctx, id: Path<String>, query: Query<DeleteQuery>) -> Reply<&'static str> {
    let recursive = query.0.recursive.unwrap_or_default();
    files::remove(&ctx, &id, query.0.path.as_deref(), recursive).await?;
    Ok(Data("deleted"))
}

/// # Errors
/// As `files::make_dir`.
pub async fn mkdir(ctx: Ctx, id: Path<String>, body: Json<MkdirBody>) -> Reply<FileView> {
    let parents = body.0.parents.unwrap_or_default();
    let made = files::make_dir(&ctx, &id, body.0.path.as_deref(), parents).await?;
    Ok(Data(made.into()))
}

/// # Errors
/// As `files::rename`.
pub async fn rename(ctx: Ctx, id: Path<String>, body: Json<MoveBody>) -> Reply<&'static str> {
    let MoveBody {
        from,
        to,
        overwrite,
    } = body.0;
    let overwrite = overwrite.unwrap_or_default();
    files::rename(&ctx, &id, from.as_deref(), to.as_deref(), overwrite).await?;
    Ok(Data("moved"))
}

/// # Errors
/// As `files::chmod`.
pub async fn chmod(ctx: Ctx, id: Path<String>, body: Json<ChmodBody>) -> Reply<FileView> {
    let changed = files::chmod(&ctx, &id, body.0.path.as_deref(), &body.0.mode).await?;
    Ok(Data(changed.into()))
}
