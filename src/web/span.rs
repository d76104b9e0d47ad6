//! The span of a request in the log: its id on every line, and neither query nor headers, where
//! secrets are. To log one more fact of every request, add a field here.

use actix_web::Error;
use actix_web::HttpMessage;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use tracing::Span;
use tracing_actix_web::{RequestId, RootSpanBuilder};

/// See the module.
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let id = request
            .extensions()
            .get::<RequestId>()
            .map(ToString::to_string);
        tracing::info_span!(
            "request",
            method = %request.method(),
            path = request.path(),
            request_id = id.unwrap_or_default(),
            user_id = tracing::field::Empty,
        )
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(response) => response.status().as_u16(),
            Err(error) => error.as_response_error().status_code().as_u16(),
        };
        let _entered = span.enter();
        if status >= 500 {
            tracing::warn!(status, "answered");
        } else if status >= 400 {
            // Whoever is refused is shown the request's id, and may ask the operator about it.
            tracing::info!(status, "refused");
        } else {
            tracing::debug!(status, "answered");
        }
    }
}
