//! What handlers of the API answer: data in its envelope, lists with their next page's link.
//!
//! To answer in one more way, add a type with its `Responder` here.

use actix_web::body::BoxBody;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;

use crate::domain::page::Page;
use crate::error::Result;

/// `{"data": …}` with status 200.
#[derive(Debug)]
pub struct Data<T>(pub T);

/// The answer of an API handler.
pub type Reply<T> = Result<Data<T>>;

#[derive(Serialize)]
struct Envelope<'a, T> {
    data: &'a T,
}

impl<T: Serialize> Responder for Data<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(Envelope { data: &self.0 })
    }
}

/// A piece of a list, its next piece named in the `Link` header.
#[derive(Debug)]
pub struct Listed<T>(pub Page<T>);

impl<T: Serialize> Responder for Listed<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let mut answer = HttpResponse::Ok();
        if let Some(cursor) = &self.0.next {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
                if name != "cursor" {
                    query.append_pair(&name, &value);
                }
            }
            query.append_pair("cursor", cursor);
            let link = format!("<{}?{}>; rel=\"next\"", request.path(), query.finish());
            answer.insert_header((header::LINK, link));
        }
        answer.json(Envelope {
            data: &self.0.items,
        })
    }
}
