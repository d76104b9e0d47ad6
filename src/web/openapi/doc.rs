//! What a line of the table of routes says for the documentation: [`Doc`], and the [`Shape`]s of
//! bodies and answers. To describe a route better, extend [`Doc`].

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

/// What the document says of a route.
#[derive(Clone, Copy)]
pub struct Doc {
    pub(super) summary: &'static str,
    pub(super) body: Option<Shape>,
    pub(super) answer: Option<Shape>,
    pub(super) query: &'static [&'static str],
    pub(super) pages: bool,
    pub(super) bare: bool,
    pub(super) form: bool,
    pub(super) redirects: bool,
    pub(super) sends: &'static [&'static str],
    pub(super) streams: bool,
    pub(super) creates: bool,
    pub(super) note: &'static str,
}

impl Doc {
    #[must_use]
    pub const fn new(summary: &'static str) -> Self {
        Self {
            summary,
            body: None,
            answer: None,
            query: &[],
            pages: false,
            bare: false,
            form: false,
            redirects: false,
            sends: &[],
            streams: false,
            creates: false,
            note: "",
        }
    }

    /// It answers server-sent events.
    #[must_use]
    pub const fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    /// It makes something, once for each `Idempotency-Key`.
    #[must_use]
    pub const fn creates(mut self) -> Self {
        self.creates = true;
        self
    }

    /// More than fits the summary, such as the messages of a WebSocket.
    #[must_use]
    pub const fn note(mut self, text: &'static str) -> Self {
        self.note = text;
        self
    }

    /// What [`Self::note`] was given.
    #[must_use]
    pub const fn remark(&self) -> &'static str {
        self.note
    }

    /// The JSON body it takes.
    #[must_use]
    pub const fn takes(mut self, shape: Shape) -> Self {
        self.body = Some(shape);
        self
    }

    /// What is in the answer's `data`.
    #[must_use]
    pub const fn answers(mut self, shape: Shape) -> Self {
        self.answer = Some(shape);
        self
    }

    /// The names its query may have.
    #[must_use]
    pub const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// Its answer is not in an envelope, as its RFC wants it.
    #[must_use]
    pub const fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// It takes its body as a form too; errors are then those of RFC 6749.
    #[must_use]
    pub const fn form(mut self) -> Self {
        self.form = true;
        self
    }

    /// It answers 302.
    #[must_use]
    pub const fn redirects(mut self) -> Self {
        self.redirects = true;
        self
    }

    /// It may answer bytes of these types, too, outside of the envelope, as a whole, in part, or
    /// not at all to who has them.
    #[must_use]
    pub const fn sends(mut self, types: &'static [&'static str]) -> Self {
        self.sends = types;
        self
    }

    /// It takes `limit` and `cursor`.
    #[must_use]
    pub const fn pages(mut self) -> Self {
        self.pages = true;
        self
    }
}

/// The schema of a type, and of those in it.
#[derive(Clone, Copy)]
pub struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    inner: fn(&mut Vec<(String, RefOr<Schema>)>),
    list: bool,
}

impl Shape {
    #[must_use]
    pub const fn of<T: ToSchema>() -> Self {
        Self {
            name: T::name,
            schema: T::schema,
            inner: T::schemas,
            list: false,
        }
    }

    #[must_use]
    pub const fn list<T: ToSchema>() -> Self {
        Self {
            list: true,
            ..Self::of::<T>()
        }
    }

    /// A reference to it, once it is among `schemas`.
    pub(super) fn refer(&self, schemas: &mut Map<String, Value>) -> Value {
        let mut found = Vec::new();
        (self.inner)(&mut found);
        let name = (self.name)().into_owned();
        let own = serde_json::to_value((self.schema)()).unwrap_or_default();
        let item = if own.get("properties").is_some() || own.get("enum").is_some() {
            schemas.insert(name.clone(), own);
            json!({ "$ref": format!("#/components/schemas/{name}") })
        } else {
            own
        };
        for (name, schema) in found {
            schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
        }
        if self.list {
            json!({ "type": "array", "items": item })
        } else {
            item
        }
    }
}
