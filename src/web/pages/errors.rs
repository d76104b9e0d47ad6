//! The page for everything that went wrong: what happened, what now, and the request's id.
//!
//! It stands alone, without the rail, because it must render when nothing else can. To give a
//! status words of its own, add it to [`ErrorPage::headline`] and [`ErrorPage::way_on`].

use askama::Template;

use super::shell::{Bare, Theme};

/// What is known of a failure when its page is made.
#[derive(Debug, Clone, Copy)]
pub struct ErrorView<'a> {
    pub status: u16,
    /// The API's code, such as `CONTAINER_NOT_FOUND`.
    pub code: &'a str,
    /// The API's message: a plain sentence, nothing internal.
    pub message: &'a str,
    /// What a person tells support, and what the log lines carry.
    pub request_id: &'a str,
    pub signed_in: bool,
    pub theme: Theme,
    /// For 429 and 503: after how many seconds to try again.
    pub retry_after: Option<u64>,
    /// When it happened, as RFC 3339 or any other text for people.
    pub time: &'a str,
}

/// A link out of here.
struct Way {
    href: &'static str,
    label: &'static str,
}

#[derive(Template)]
#[template(path = "pages/error.html")]
struct ErrorPage<'a> {
    shell: Bare,
    error: ErrorView<'a>,
}

impl ErrorPage<'_> {
    fn headline(&self) -> &'static str {
        match (self.error.status, self.error.code) {
            (404, "CONTAINER_NOT_FOUND") => "There is no such container",
            (404, "COMMAND_NOT_FOUND") => "There is no such command",
            (404, _) => "There is nothing here",
            (400, _) => "That request could not be understood",
            (401, _) => "You need to sign in",
            (403, "CSRF_REJECTED") => "That form was too old",
            (403, "QUOTA_EXCEEDED") => "That is more than your quota allows",
            (403, _) => "You may not do that",
            (405, _) => "That does not work this way",
            (409, _) => "That is not possible right now",
            (413, _) => "That was too large",
            (415, _) => "That kind of content is not accepted",
            (429, _) => "That was too often",
            (501, _) => "That is turned off here",
            (503, "PROVIDER_UNAVAILABLE") => "The sign-in provider does not answer",
            (503, _) => "Containers cannot be reached right now",
            _ => "Something went wrong on our side",
        }
    }

    /// What a person can do about it, in a sentence.
    fn advice(&self) -> &'static str {
        match (self.error.status, self.error.code) {
            (404, "CONTAINER_NOT_FOUND") => "It may have been deleted, or the address is wrong.",
            (404, _) => "The address may be mistyped, or what was here is gone.",
            (403, "CSRF_REJECTED") => {
                "Go back, reload the page and send the form again. Nothing was changed."
            }
            (403, _) => {
                "If you think you should be able to, ask an administrator of this hzel or the \
                 owner of the container."
            }
            (501, _) => "An administrator of this hzel can turn it on.",
            (409, _) => "Nothing was changed. Look at its present state and try again.",
            (429, _) => "Wait a little, then try again. Nothing was changed.",
            (503, "PROVIDER_UNAVAILABLE") => {
                "It may be down for a moment. Try again, or sign in with a password if you have one."
            }
            (503, _) => {
                "Your containers are not affected: they keep running on their own. Try again in \
                 a moment."
            }
            (500, _) => {
                "It is in the server's log under the id below. If it happens again, give that id \
                 and the time to support."
            }
            (401, _) => "Your session is over, or you have not signed in yet.",
            _ => "Nothing was changed.",
        }
    }

    fn way_on(&self) -> Way {
        match self.error.status {
            401 => Way {
                href: "/login",
                label: "Sign in",
            },
            _ if self.error.signed_in => Way {
                href: "/",
                label: "All containers",
            },
            _ => Way {
                href: "/",
                label: "Start page",
            },
        }
    }
}

/// The whole page, as HTML. Cannot fail: should the template, a sentence is left.
#[must_use]
pub fn render(error: &ErrorView<'_>) -> String {
    let page = ErrorPage {
        shell: Bare::failed(error.theme, format!("{} {}", error.status, error.code)),
        error: *error,
    };
    page.render().unwrap_or_else(|cause| {
        tracing::error!(%cause, "the error page did not render");
        "<!doctype html><title>hzel</title><p>Something went wrong.".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(status: u16, code: &'static str, message: &'static str) -> ErrorView<'static> {
        ErrorView {
            status,
            code,
            message,
            request_id: "0190b5a0-0000-7000-8000-000000000001",
            signed_in: true,
            theme: Theme::Dark,
            retry_after: None,
            time: "2026-11-22T14:03:09Z",
        }
    }

    #[test]
    fn every_status_has_words_an_id_and_a_way_on() {
        for status in [400, 401, 403, 404, 405, 409, 413, 415, 429, 500, 501, 503] {
            let html = render(&sample(status, "SOME_CODE", "A sentence."));
            for part in [
                "A sentence.",
                "0190b5a0-0000-7000-8000-000000000001",
                "href=\"/",
            ] {
                assert!(html.contains(part), "{status} lacks {part}");
            }
        }
    }

    #[test]
    fn what_came_from_outside_is_escaped() {
        let html = render(&sample(
            404,
            "CONTAINER_NOT_FOUND",
            "Container <script> was not found",
        ));
        assert!(!html.contains("Container <script>"));
    }
}
