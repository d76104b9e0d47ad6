//! The embedded files: stylesheet, scripts, marks.
//!
//! `build.rs` makes the table and one constant for each address (`url::APP_CSS` for
//! `static/app.css`), so that a template that names a file which is not there does not compile.
//! To add a file, put it under `static/`.

use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, Encoding, EntityTag,
    Header as _, IfNoneMatch, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// One embedded file.
struct Asset {
    url: &'static str,
    content_type: &'static str,
    /// Quoted, as the header wants it.
    etag: &'static str,
    bytes: &'static [u8],
    /// The same, compressed when hzel was built.
    gzip: &'static [u8],
}

/// The address carries a hash of the content: it can be kept for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Answers `GET /static/{path}`: the file, 304 if the browser has it, or `None` if there is no
/// such file (an old hash included), for the caller to answer as every unknown path.
#[must_use]
pub fn serve(request: &HttpRequest) -> Option<HttpResponse> {
    let asset = ASSETS.iter().find(|asset| asset.url == request.path())?;
    let known = has_it(request, asset);
    let mut answer = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer
        .insert_header((CACHE_CONTROL, FOR_EVER))
        .insert_header((ETAG, asset.etag))
        .insert_header((VARY, "Accept-Encoding"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CONTENT_TYPE, asset.content_type));
    Some(if known {
        answer.finish()
    } else if takes_gzip(request) {
        answer.insert_header((CONTENT_ENCODING, "gzip"));
        answer.body(asset.gzip)
    } else {
        answer.body(asset.bytes)
    })
}

fn takes_gzip(request: &HttpRequest) -> bool {
    let ours = [Encoding::gzip(), Encoding::identity()];
    AcceptEncoding::parse(request)
        .ok()
        .and_then(|accepted| accepted.negotiate(ours.iter()))
        .is_some_and(|chosen| chosen == Encoding::gzip())
}

/// Whether the request says that the browser holds this very content. Compared weakly: a proxy
/// that compresses turns the tag into a weak one.
fn has_it(request: &HttpRequest, asset: &Asset) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => {
            let ours = EntityTag::new_strong(asset.etag.trim_matches('"').to_owned());
            tags.iter().any(|tag| tag.weak_eq(&ours))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    #[test]
    fn a_file_is_served_for_ever_and_not_twice() {
        let first = serve(&TestRequest::with_uri(url::APP_CSS).to_http_request()).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(
            first.headers().get(CONTENT_TYPE).unwrap(),
            "text/css; charset=utf-8"
        );
        assert_eq!(first.headers().get(CACHE_CONTROL).unwrap(), FOR_EVER);
        let tag = first.headers().get(ETAG).unwrap().to_str().unwrap();
        for held in [tag.to_owned(), format!("W/{tag}"), "*".to_owned()] {
            let again = TestRequest::with_uri(url::APP_CSS)
                .insert_header(("if-none-match", held))
                .to_http_request();
            assert_eq!(serve(&again).unwrap().status(), StatusCode::NOT_MODIFIED);
        }
    }

    #[test]
    fn whoever_takes_gzip_gets_it() {
        for (accepts, packed) in [
            ("gzip, deflate, br", true),
            ("identity", false),
            ("", false),
        ] {
            let request = TestRequest::with_uri(url::APP_CSS)
                .insert_header(("accept-encoding", accepts))
                .to_http_request();
            let answer = serve(&request).unwrap();
            assert_eq!(
                answer.headers().contains_key(CONTENT_ENCODING),
                packed,
                "{accepts}"
            );
        }
    }

    #[test]
    fn an_old_address_is_unknown() {
        let request = TestRequest::with_uri("/static/app.0000000000000000.css").to_http_request();
        assert!(serve(&request).is_none());
    }
}
