//! Sending files of a container: as they are, in a part of theirs, or as a tar. None is ever shown
//! by the browser as a page of ours: a tenant wrote it.
//!
//! To have a kind of file sent under its own content type, add its ending to [`content_type`], if a
//! browser can do no harm with it.

use actix_web::body::{BodyStream, SizedStream};
use actix_web::http::header::{
    self, ContentDisposition, ContentEncoding, DispositionParam, DispositionType, HeaderValue,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, Stream};

use crate::domain::files::{FileArchive, FileInfo, FileReader};
use crate::error::{Error, Result};

/// How much is read and sent at once.
const CHUNK: u64 = 256 * 1024;
/// Of a tar.
pub const TAR: &str = "application/x-tar";

/// Types that neither run nor draw anything from elsewhere; all others are just bytes. The answer is
/// an attachment under a policy that allows nothing, and browsers are told not to guess.
fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending.to_ascii_lowercase().as_str() {
        "txt" | "log" | "md" | "conf" | "ini" | "toml" | "yaml" | "yml" | "sh" | "csv" => {
            "text/plain; charset=utf-8"
        }
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "gz" | "tgz" => "application/gzip",
        "zip" => "application/zip",
        "tar" => TAR,
        _ => "application/octet-stream",
    }
}

/// As a file to be saved under that name.
fn attachment(name: &str) -> ContentDisposition {
    let plain: String = name
        .chars()
        .map(|c| if c.is_control() { '_' } else { c })
        .collect();
    // A name that is not ASCII has a form of its own, with a plain one for those who cannot read it.
    let mut parameters = vec![DispositionParam::Filename(
        plain
            .chars()
            .map(|c| {
                if c.is_ascii() && c != '"' && c != '\\' {
                    c
                } else {
                    '_'
                }
            })
            .collect(),
    )];
    if !plain.is_ascii() {
        parameters.push(DispositionParam::FilenameExt(header::ExtendedValue {
            charset: header::Charset::Ext("UTF-8".into()),
            language_tag: None,
            value: plain.into_bytes(),
        }));
    }
    ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters,
    }
}

/// A file, or the part of it that is asked for.
///
/// # Errors
/// [`Error::RangeNotSatisfiable`].
pub fn file(
    request: &HttpRequest,
    info: &FileInfo,
    reader: Box<dyn FileReader>,
) -> Result<HttpResponse> {
    let tag = format!("\"{}\"", info.tag);
    let asked = |name: header::HeaderName| request.headers().get(name)?.to_str().ok();
    let modified = httpdate(info);
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::ETAG, tag.as_str()))
        .insert_header((header::LAST_MODIFIED, modified))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CONTENT_TYPE, content_type(&info.name)))
        .insert_header(attachment(&info.name))
        // Kept by the client, but never used without asking.
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        // Ranges and lengths are those of the file, so it is not compressed on the way.
        .insert_header(ContentEncoding::Identity);
    if asked(header::IF_NONE_MATCH).is_some_and(|known| {
        known == "*"
            || known
                .split(',')
                .any(|one| one.trim().trim_start_matches("W/") == tag)
    }) {
        return Ok(answer
            .status(actix_web::http::StatusCode::NOT_MODIFIED)
            .finish());
    }
    let current = asked(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = asked(header::RANGE)
        .filter(|_| current)
        .and_then(|text| parse_range(text, info.size));
    let (begin, length) = match range {
        Some((begin, end)) if begin >= end => {
            // Whoever has the whole file already learns so by its size.
            return Err(Error::RangeNotSatisfiable { size: info.size });
        }
        Some((begin, end)) => {
            answer
                .status(actix_web::http::StatusCode::PARTIAL_CONTENT)
                .insert_header((
                    header::CONTENT_RANGE,
                    format!("bytes {begin}-{}/{}", end - 1, info.size),
                ));
            (begin, end - begin)
        }
        None => (0, info.size),
    };
    if request.method() == "HEAD" {
        // The length is said, and nothing is read for it.
        let nothing = stream::empty::<Result<Bytes>>();
        return Ok(answer.body(SizedStream::new(length, nothing)));
    }
    Ok(answer.body(SizedStream::new(length, content(reader, begin, length))))
}

/// A file system's time in HTTP's form.
fn httpdate(info: &FileInfo) -> HeaderValue {
    let text = info
        .modified
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// One range of `bytes`, as first byte and the one after the last, which are the same when the file
/// has none of it; what is more complicated, or wrong, is answered with the whole, as RFC 9110 has it.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    // Beyond every file is beyond this one, however many digits it takes to say so.
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (begin, end) = match (first.trim(), last.trim()) {
        ("", last) => (size.saturating_sub(number(last)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some((begin.min(end), end))
}

/// Exactly `length` bytes: a file that became shorter meanwhile breaks the answer off, so that
/// nobody takes a part for the whole.
fn content(
    reader: Box<dyn FileReader>,
    begin: u64,
    length: u64,
) -> impl Stream<Item = Result<Bytes>> {
    stream::try_unfold((reader, begin, length), async |(mut reader, at, left)| {
        if left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(left.min(CHUNK)).unwrap_or_default();
        let bytes = reader.read_at(at, wanted).await.map_err(broken)?;
        if bytes.is_empty() {
            return Err(broken("the file became shorter"));
        }
        let read = bytes.len() as u64;
        Ok(Some((bytes, (reader, at + read, left - read))))
    })
}

/// A tar, which is made while it is sent.
#[must_use]
pub fn archive(request: &HttpRequest, path: &str, archive: Box<dyn FileArchive>) -> HttpResponse {
    let name = path.trim_end_matches('/').rsplit('/').next();
    let name = name.filter(|name| !name.is_empty()).unwrap_or("root");
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CONTENT_TYPE, TAR))
        .insert_header(attachment(&format!("{name}.tar")))
        .insert_header(ContentEncoding::Identity);
    if request.method() == "HEAD" {
        return answer.finish();
    }
    let pieces = stream::try_unfold(archive, async |mut archive| {
        let piece = archive.next().await.map_err(broken)?;
        Ok::<_, Error>(piece.map(|piece| (piece, archive)))
    });
    answer.body(BodyStream::new(Box::pin(pieces)))
}

/// An answer that has begun can only be broken off.
fn broken(why: impl std::fmt::Display) -> Error {
    tracing::info!(%why, "a download is broken off");
    Error::internal(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_within_the_file() {
        for (text, range) in [
            ("bytes=0-99", Some((0, 100))),
            ("bytes=90-", Some((90, 100))),
            ("bytes=-10", Some((90, 100))),
            ("bytes=-1000", Some((0, 100))),
            ("bytes=0-18446744073709551615", Some((0, 100))),
            ("bytes=100-", Some((100, 100))),
            ("bytes=200-300", Some((100, 100))),
            ("bytes=-0", Some((100, 100))),
            ("bytes=5-4", None),
            ("bytes=0-1,5-6", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(parse_range(text, 100), range, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Some((0, 0)));
    }

    #[test]
    fn nothing_that_runs_has_a_type_of_its_own() {
        for name in ["x.html", "x.svg", "x.js", "x.xml", "x.pdf", "x.xhtml", "x"] {
            assert_eq!(content_type(name), "application/octet-stream", "{name}");
        }
        assert_eq!(content_type("a.b/x.TXT"), "text/plain; charset=utf-8");
    }

    #[test]
    fn names_cannot_break_the_header() {
        let header = attachment("a\"\r\nb\\ü.txt").to_string();
        assert!(
            header.starts_with("attachment; filename=\"a___b__.txt\""),
            "{header}"
        );
        assert!(header.contains("filename*=UTF-8''a%22"), "{header}");
        assert!(!header.contains(['\r', '\n']));
    }
}
