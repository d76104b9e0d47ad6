//! What the operator decides: read from flags and the environment once, checked, then trusted.
//! Secrets in it are not printed.
//!
//! To add a variable: a field here, its line in [`Config::from_env`] with a sentence for a bad
//! value, and its row in the README's table.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use url::Url;

use crate::db;
use crate::runtime::ImageSource;

/// See the module.
#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub public_url: Url,
    pub data_dir: PathBuf,
    pub database: db::Url,
    /// The default image's source, as it was given; empty is the machine's own distribution.
    pub image: String,
    /// `auto`, or a name or path.
    pub oci_runtime: String,
    pub trusted_proxies: Vec<IpAddr>,
    /// A `tracing` filter.
    pub log: String,
    pub rate_limit: bool,
}

/// What was given, before it is checked; every field is a variable's text.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// A sentence that names the variable with a bad value and says which values are good.
    pub fn from_env() -> Result<Self, String> {
        Self::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`Config::from_env`], from anywhere.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn read(get: Lookup<'_>) -> Result<Self, String> {
        let listen_text = get("HZEL_LISTEN").unwrap_or_else(|| "127.0.0.1:8080".into());
        let listen = listen_text.parse().map_err(|_| {
            format!("HZEL_LISTEN must be an address and a port such as 127.0.0.1:8080, not {listen_text}")
        })?;
        let url_text = get("HZEL_PUBLIC_URL").unwrap_or_else(|| "http://localhost:8080".into());
        let public_url = parse_public_url(&url_text)?;
        let data_dir = match get("HZEL_DATA_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => default_data_dir(get)?,
        };
        if !data_dir.is_absolute() {
            return Err("HZEL_DATA_DIR must be an absolute path".into());
        }
        let database_text = get("DATABASE_URL")
            .unwrap_or_else(|| format!("sqlite://{}", data_dir.join("hzel.db").display()));
        let database = db::Url::parse(&database_text)?;
        match get("HZEL_RUNTIME").as_deref() {
            None | Some("native") => {}
            Some(other) => {
                return Err(format!(
                    "HZEL_RUNTIME must be native, the engine that this version has, not {other}"
                ));
            }
        }
        let image = get("HZEL_IMAGE").unwrap_or_default();
        ImageSource::parse(&image).map_err(|reason| format!("HZEL_IMAGE {reason}"))?;
        let trusted_proxies = get("HZEL_TRUSTED_PROXIES")
            .unwrap_or_default()
            .split([',', ' '])
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse().map_err(|_| {
                    format!("HZEL_TRUSTED_PROXIES must be addresses with commas between them, and {part} is none")
                })
            })
            .collect::<Result<_, String>>()?;
        let log = get("HZEL_LOG").unwrap_or_else(|| "info".into());
        tracing_subscriber::EnvFilter::try_new(&log).map_err(|_| {
            format!("HZEL_LOG must be a filter such as info or hzel=debug, not {log}")
        })?;
        let rate_limit = match get("HZEL_RATE_LIMIT").as_deref() {
            None | Some("on") => true,
            Some("off") => false,
            Some(other) => return Err(format!("HZEL_RATE_LIMIT must be on or off, not {other}")),
        };
        let oci_runtime = get("HZEL_OCI_RUNTIME").unwrap_or_else(|| "auto".into());
        if get("HZEL_OIDC_ISSUER").is_some() {
            return Err("HZEL_OIDC_ISSUER is set, and this version has no OpenID Connect".into());
        }
        if get("HZEL_SSH_LISTEN").is_some() {
            return Err("HZEL_SSH_LISTEN is set, and this version has no SSH gateway".into());
        }
        match get("HZEL_SIGNUP").as_deref() {
            None | Some("closed") => {}
            Some(other) => {
                return Err(format!(
                    "HZEL_SIGNUP must be closed in this version, not {other}"
                ));
            }
        }
        Ok(Self {
            listen,
            public_url,
            data_dir,
            database,
            image,
            oci_runtime,
            trusted_proxies,
            log,
            rate_limit,
        })
    }

    /// Whether browsers come by https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.public_url.scheme() == "https"
    }

    /// The session cookie's name; with https it is bound to this host.
    #[must_use]
    pub fn session_cookie(&self) -> &'static str {
        if self.is_https() {
            "__Host-hzel_session"
        } else {
            "hzel_session"
        }
    }

    /// Scheme, host and port, as browsers write it in `Origin`.
    #[must_use]
    pub fn public_origin(&self) -> String {
        self.public_url.origin().ascii_serialization()
    }
}

fn parse_public_url(text: &str) -> Result<Url, String> {
    let wrong = || {
        format!("HZEL_PUBLIC_URL must be an address such as https://cloud.example.org, not {text}")
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    let ok = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.username().is_empty();
    if ok { Ok(url) } else { Err(wrong()) }
}

fn default_data_dir(get: Lookup<'_>) -> Result<PathBuf, String> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/hzel"));
    }
    let share = match (get("XDG_DATA_HOME"), get("HOME")) {
        (Some(share), _) => PathBuf::from(share),
        (None, Some(home)) => Path::new(&home).join(".local/share"),
        (None, None) => return Err("HZEL_DATA_DIR must be set, for there is no HOME".into()),
    };
    Ok(share.join("hzel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        Config::read(&|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
                .or_else(|| (name == "HZEL_DATA_DIR").then(|| "/tmp/x".to_owned()))
        })
    }

    #[test]
    fn the_defaults_are_good() {
        let config = read(&[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.session_cookie(), "hzel_session");
        assert_eq!(config.public_origin(), "http://localhost:8080");
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        for (name, value) in [
            ("HZEL_LISTEN", "8080"),
            ("HZEL_PUBLIC_URL", "ftp://x"),
            ("HZEL_DATA_DIR", "relative"),
            ("DATABASE_URL", "mysql://x"),
            ("HZEL_RUNTIME", "docker"),
            ("HZEL_TRUSTED_PROXIES", "localhost"),
            ("HZEL_RATE_LIMIT", "maybe"),
            ("HZEL_SIGNUP", "maybe"),
        ] {
            let message = read(&[(name, value)]).err().unwrap_or_default();
            assert!(message.contains(name), "{name}: {message}");
        }
    }
}
