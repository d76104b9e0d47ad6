//! Redirect URIs: which ones an application may have, and how an answer is put into one.
//!
//! To allow one more kind, add it to [`check`]; who is sent somewhere is always sent to a URI that
//! was checked here when the application was registered, letter by letter.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Longest, in bytes.
const MAX_LEN: usize = 2000;

/// Whether an application may have that redirect URI: absolute, without a fragment, https, or http
/// to this very machine, or for public applications a scheme of their own (RFC 8252, 7.1).
#[must_use]
pub fn check(text: &str, public: bool) -> bool {
    // What browsers read differently from what is written has no place in here.
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'<>\\^`{|}#".contains(&b);
    if text.is_empty() || text.len() > MAX_LEN || !text.bytes().all(plain) {
        return false;
    }
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    if !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    match url.scheme() {
        // Browsers add missing slashes; nobody else does.
        scheme @ ("https" | "http") if text.get(scheme.len()..).is_some_and(is_hierarchical) => {
            match url.host() {
                Some(host) => is_clean(&host) && (scheme == "https" || is_loopback(&host)),
                None => false,
            }
        }
        scheme => public && is_private_use(scheme),
    }
}

fn is_hierarchical(rest: &str) -> bool {
    rest.starts_with("://") && !rest.starts_with(":///")
}

/// Whether a URI goes to a scheme that any program on a device can claim.
#[must_use]
pub fn is_claimable(uri: &str) -> bool {
    !uri.starts_with("https://") && !uri.starts_with("http://")
}

/// A domain turned round, as RFC 8252 wants it: that keeps `javascript` and its like out.
fn is_private_use(scheme: &str) -> bool {
    scheme.contains('.') && !scheme.starts_with('.') && !scheme.ends_with('.')
}

fn is_clean(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_'),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => Ipv4Addr::is_loopback(address),
        Host::Ipv6(address) => Ipv6Addr::is_loopback(address),
    }
}

/// The URI with these parameters in its query, which keeps what it has.
#[must_use]
pub fn with(uri: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        query.append_pair(name, value);
    }
    let joint = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{uri}{joint}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uris_that_reach_the_application_are_taken() {
        for good in [
            "https://app.example.org/callback",
            "https://app.example.org:8443/callback?tenant=1",
            "https://app.example.org",
            "http://localhost:3000/callback",
            "http://127.0.0.1/callback",
            "http://[::1]:9999/callback",
        ] {
            assert!(check(good, false), "{good}");
            assert!(check(good, true), "{good}");
        }
        for bad in [
            "",
            "/callback",
            "app.example.org/callback",
            "https:app.example.org",
            "https:///app.example.org",
            "https:/app.example.org",
            "https://app.example.org/callback#part",
            "https://app.example.org/call back",
            "https://app.example.org/callback\n",
            "https://app.example.org\\@evil.example/",
            "https://user@app.example.org/callback",
            "https://user:word@app.example.org/callback",
            "https://app.example.org;script-src/callback",
            "https://äpp.example/callback",
            "http://app.example.org/callback",
            "http://localhost.example.org/callback",
            "http://128.0.0.1/callback",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ftp://app.example.org/",
            "myapp:/callback",
        ] {
            assert!(!check(bad, false), "{bad}");
            assert!(!check(bad, true), "{bad}");
        }
        let own = "org.example.app:/callback";
        assert!(check(own, true) && !check(own, false));
    }

    #[test]
    fn answers_are_added_to_what_the_query_has() {
        let answer = [("code", "a b"), ("state", "x&y")];
        for (uri, whole) in [
            ("https://a.org/cb", "https://a.org/cb?code=a+b&state=x%26y"),
            ("https://a.org/cb?", "https://a.org/cb?code=a+b&state=x%26y"),
            (
                "https://a.org/cb?t=1",
                "https://a.org/cb?t=1&code=a+b&state=x%26y",
            ),
            ("org.a:/cb", "org.a:/cb?code=a+b&state=x%26y"),
        ] {
            assert_eq!(with(uri, &answer), whole);
        }
    }
}
