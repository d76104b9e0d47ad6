//! Lists in pieces: newest first, `limit` at a time, the next piece behind an opaque cursor.
//!
//! To page another list, take a [`PageRequest`] and answer [`Page::cut`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};

pub const DEFAULT_LIMIT: i64 = 50;
pub const MAX_LIMIT: i64 = 200;

/// Which piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    limit: i64,
    before: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            before: None,
        }
    }
}

impl PageRequest {
    /// From the query's `limit` and `cursor`.
    ///
    /// # Errors
    /// A validation error that names the field.
    pub fn parse(limit: Option<i64>, cursor: Option<&str>) -> Result<Self> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::field(
                "limit",
                format!("limit must be between 1 and {MAX_LIMIT}"),
            ));
        }
        let before = cursor
            .map(|cursor| {
                URL_SAFE_NO_PAD
                    .decode(cursor)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .filter(|text| !text.is_empty() && text.len() <= 64 && !text.contains('\0'))
                    .ok_or_else(|| {
                        Error::field("cursor", "cursor must be one that an earlier answer gave")
                    })
            })
            .transpose()?;
        Ok(Self { limit, before })
    }

    #[must_use]
    pub const fn limit(&self) -> i64 {
        self.limit
    }

    /// One more than asked for: whether it comes tells whether there is a next piece.
    #[must_use]
    pub const fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// The sort key of the last item before this piece.
    #[must_use]
    pub fn before(&self) -> Option<&str> {
        self.before.as_deref()
    }
}

/// A piece of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The cursor of the next piece, if there is one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A piece of a short list that is there as a whole; `key` is an item's own.
    pub fn of(all: Vec<T>, request: &PageRequest, key: impl Fn(&T) -> String) -> Self {
        let begin = request.before().map_or(0, |before| {
            let last = all.iter().position(|item| key(item) == before);
            last.map_or(all.len(), |at| at + 1)
        });
        Self::cut(all.into_iter().skip(begin).collect(), request, key)
    }

    /// Cuts what [`PageRequest::fetch`] asked for down to the piece; `key` is an item's sort key.
    pub fn cut(mut items: Vec<T>, request: &PageRequest, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items
            .last()
            .filter(|_| more)
            .map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        Self { items, next }
    }

    /// The same piece of other things.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
        }
    }
}
