//! What handlers take: the context, and bodies and queries whose every fault is told in our form.
//!
//! To take something new, implement `FromRequest` here with [`Error`] as its error.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::StreamExt;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};

use super::wrong_type;
use crate::domain::ctx::Ctx;
use crate::error::{Error, Result};

/// Largest body, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;
/// How long a whole body may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes read past that before the answer, so that a client that sends all first can read it.
const DRAINED: usize = 32 * 1024 * 1024;

type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<T>>>>;

impl FromRequest for Ctx {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let ctx = request.extensions().get::<Self>().cloned();
        ready(ctx.ok_or_else(|| Error::internal("a handler without its gate")))
    }
}

/// The whole body, at most [`MAX_BODY`].
///
/// # Errors
/// [`Error::PayloadTooLarge`]; [`Error::BadRequest`] when it breaks off or takes too long.
pub async fn read_body(mut payload: Payload, length: Option<&HeaderValue>) -> Result<web::Bytes> {
    let announced = number(length);
    let mut body = web::BytesMut::new();
    let mut seen = 0_usize;
    // For the whole: whoever sends byte by byte holds memory as well as who sends nothing.
    let end = tokio::time::Instant::now() + PATIENCE;
    while let Some(chunk) = tokio::time::timeout_at(end, payload.next())
        .await
        .map_err(|_| Error::BadRequest("The request body did not come in time".into()))?
    {
        let chunk = chunk.map_err(broken_off)?;
        seen = seen.saturating_add(chunk.len());
        if seen <= MAX_BODY {
            body.extend_from_slice(&chunk);
        } else {
            body.clear();
            let hopeless = announced.is_some_and(|n| n > DRAINED as u64) || seen > DRAINED;
            if hopeless {
                break;
            }
        }
    }
    if seen > MAX_BODY {
        Err(Error::PayloadTooLarge { limit: MAX_BODY })
    } else {
        Ok(body.freeze())
    }
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value.and_then(|v| v.to_str().ok()?.parse().ok())
}

/// How many bytes the body is said to have.
#[must_use]
pub fn announced(headers: &header::HeaderMap) -> Option<u64> {
    number(headers.get(header::CONTENT_LENGTH))
}

/// What a body that ends too early is.
#[must_use]
pub fn broken_off(_: actix_web::error::PayloadError) -> Error {
    Error::BadRequest("The request body broke off".into())
}

/// Reads on for a while after a body was refused, so that a client that sends all first can read
/// the answer.
pub async fn drain(mut payload: web::Payload, announced: Option<u64>) {
    if announced.is_some_and(|length| length > DRAINED as u64) {
        return;
    }
    let mut seen = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        seen += chunk.len();
        if seen > DRAINED {
            return;
        }
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Error;
    type Future = Future<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = payload.take();
        let length = request.headers().get(header::CONTENT_LENGTH).cloned();
        let kind = request.content_type().to_ascii_lowercase();
        let foreign = is_encoded(request);
        Box::pin(async move {
            let body = read_body(payload, length.as_ref()).await?;
            // Nothing of no kind is not of the wrong kind.
            if body.is_empty() && kind.is_empty() {
                return from_json(&body).map(Self);
            }
            if foreign || (kind != "application/json" && !kind.ends_with("+json")) {
                return Err(Error::UnsupportedMediaType {
                    expected: "application/json",
                });
            }
            from_json(&body).map(Self)
        })
    }
}

/// Whether the body is compressed, or in another character set than UTF-8: neither is read.
fn is_encoded(request: &HttpRequest) -> bool {
    let text = |name: header::HeaderName| {
        let value = request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    };
    let encoding = text(header::CONTENT_ENCODING);
    let kind = text(header::CONTENT_TYPE);
    let charset = kind
        .split("charset=")
        .nth(1)
        .map(|rest| rest.trim_matches(['"', ' ']));
    !matches!(encoding.as_str(), "" | "identity")
        || charset.is_some_and(|set| !matches!(set, "utf-8" | "utf8" | "us-ascii"))
}

/// Parses JSON.
///
/// # Errors
/// [`Error::BadRequest`] that names the field, where there is one.
pub fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Error::BadRequest("The request body is not valid UTF-8".into()))?;
    if text.trim().is_empty() {
        return Err(Error::BadRequest(
            "The request body is empty; JSON is expected".into(),
        ));
    }
    // serde would take an array's items as the fields in order.
    if !text.trim_start().starts_with('{')
        && serde_json::from_str::<serde_json::Value>(text).is_ok()
    {
        return Err(Error::BadRequest(
            "The request body must be a JSON object".into(),
        ));
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let cause = inner.to_string();
        let cause = cause.split(" at line ").next().unwrap_or_default();
        Error::BadRequest(if inner.is_data() {
            wrong_type::sentence(&path, cause)
        } else {
            format!("The request body is not valid JSON: {cause}")
        })
    })?;
    parser
        .end()
        .map_err(|_| Error::BadRequest("The request body has something after its JSON".into()))?;
    Ok(value)
}

/// A query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(from_query(request.query_string()).map(Self))
    }
}

/// Whether decoding put replacement characters where something else was sent: a name that is not UTF-8
/// would become another one, which may exist.
fn is_replaced(text: &str, pairs: url::form_urlencoded::Parse<'_>) -> bool {
    const SENT: &str = "%EF%BF%BD";
    let shown: usize = pairs
        .map(|(name, value)| name.matches('\u{FFFD}').count() + value.matches('\u{FFFD}').count())
        .sum();
    shown > 0
        && shown
            > text.matches('\u{FFFD}').count() + text.to_ascii_uppercase().matches(SENT).count()
}

/// Parses what is encoded as a form: a query string, or a form's body.
///
/// # Errors
/// [`Error::BadRequest`] that names the field, where there is one.
pub fn from_query<T: DeserializeOwned>(text: &str) -> Result<T> {
    let pairs = url::form_urlencoded::parse(text.as_bytes());
    if is_replaced(text, pairs) {
        return Err(Error::BadRequest("What is sent must be UTF-8".into()));
    }
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner().to_string();
        Error::BadRequest(wrong_type::sentence(&path, &cause))
    })
}

/// A form's fields, as the browser sent them.
#[derive(Debug)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = Error;
    type Future = Future<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = payload.take();
        let length = request.headers().get(header::CONTENT_LENGTH).cloned();
        let kind = request.content_type().to_ascii_lowercase();
        Box::pin(async move {
            let body = read_body(payload, length.as_ref()).await?;
            if kind != "application/x-www-form-urlencoded" {
                let expected = "application/x-www-form-urlencoded";
                return Err(Error::UnsupportedMediaType { expected });
            }
            let text = std::str::from_utf8(&body)
                .map_err(|_| Error::BadRequest("The form is not valid UTF-8".into()))?;
            from_query(text).map(Self)
        })
    }
}

/// A whole number of JSON. One too large for the machine is the largest there is, so that a rule's
/// range refuses it, not the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = i64)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Whole;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E>(self, value: i64) -> std::result::Result<Whole, E> {
                Ok(Whole(value))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<Whole, E> {
                Ok(Whole(i64::try_from(value).unwrap_or(i64::MAX)))
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Whole, E> {
                // The parser gives integers past 64 bits as floating point.
                if value >= 9.2e18 {
                    Ok(Whole(i64::MAX))
                } else if value <= -9.2e18 {
                    Ok(Whole(i64::MIN))
                } else {
                    Err(E::invalid_type(serde::de::Unexpected::Float(value), &self))
                }
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

/// A whole number in a query, where everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryWhole(pub i64);

impl<'de> Deserialize<'de> for QueryWhole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(serde::de::Error::custom("expected a whole number"));
        }
        let end = if text.starts_with('-') {
            i64::MIN
        } else {
            i64::MAX
        };
        Ok(Self(text.parse().unwrap_or(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Body {
        disk_gb: Option<Whole>,
    }

    #[test]
    fn numbers_out_of_range_parse_and_other_types_do_not() {
        for (text, value) in [("18", 18), ("-5", -5), ("99999999999999999999", i64::MAX)] {
            let body: Body = from_json(format!("{{\"disk_gb\":{text}}}").as_bytes()).unwrap();
            assert_eq!(body.disk_gb, Some(Whole(value)));
        }
        for text in ["\"18\"", "18.5", "[]", "true"] {
            let error = from_json::<Body>(format!("{{\"disk_gb\":{text}}}").as_bytes());
            let message = error.unwrap_err().message();
            assert!(message.starts_with("disk_gb must be "), "{message}");
        }
    }

    #[test]
    fn broken_bodies_say_what_is_wrong() {
        for (body, word) in [
            (&b"{"[..], "JSON"),
            (b"", "empty"),
            (b"\xff", "UTF-8"),
            (b"{} {}", "after"),
            (b"[1]", "object"),
            (b"[null]", "object"),
        ] {
            let message = from_json::<Body>(body).unwrap_err().message();
            assert!(message.contains(word), "{message}");
        }
    }
}
