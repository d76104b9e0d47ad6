//! What the operator decides: read from flags and the environment once, checked, then trusted.
//! Secrets in it are not printed.
//!
//! To add a variable: a field here, its line in [`Config::from_env`] with a sentence for a bad
//! value, and its row in the README's table.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::db;
use crate::runtime::ImageSource;
use crate::spool;

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
    pub oidc: Option<OidcConfig>,
    /// How long a terminal that nobody looks at lives.
    pub terminal_idle: Duration,
    /// How long a container is kept that the database does not know.
    pub keep_unclaimed: Duration,
    /// WebSockets and event streams that one user may have open.
    pub streams_per_user: usize,
    /// Commands that run side by side in one container; more wait.
    pub jobs_per_container: usize,
    /// Commands of one user that run side by side; more wait.
    pub jobs_per_user: usize,
    /// Largest file that is uploaded, in bytes.
    pub upload_limit: u64,
    /// Days that a command's record is kept after its end.
    pub commands_days: u32,
    /// How much of commands' output is kept for listeners.
    pub spool: spool::Limits,
}

/// The OpenID Connect provider that people may sign in with.
#[derive(Clone)]
pub struct OidcConfig {
    /// To the letter as the provider says it.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: SecretString,
    /// What the button to sign in calls it.
    pub name: String,
    /// A claim and the value in it that makes administrators.
    pub admin_claim: Option<(String, String)>,
    /// Whether its e-mail addresses count as verified though it does not say so.
    pub trust_email: bool,
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
        let oidc = oidc(get)?;
        let idle_text = get("HZEL_TERMINAL_IDLE").unwrap_or_else(|| "1h".into());
        let terminal_idle = duration(&idle_text).ok_or_else(|| {
            format!("HZEL_TERMINAL_IDLE must be a time such as 90s, 30m, 1h or 2d, not {idle_text}")
        })?;
        let keep_text = get("HZEL_KEEP_UNCLAIMED").unwrap_or_else(|| "14d".into());
        let keep_unclaimed = duration(&keep_text).ok_or_else(|| {
            format!("HZEL_KEEP_UNCLAIMED must be a time such as 12h or 14d, not {keep_text}")
        })?;
        let upload_limit = upload_limit(get)?;
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
            oidc,
            terminal_idle,
            keep_unclaimed,
            streams_per_user: whole(get, "HZEL_SOCKETS_PER_USER", 50, 1, 10_000)?,
            jobs_per_container: whole(get, "HZEL_JOBS_PER_CONTAINER", 16, 1, 256)?,
            jobs_per_user: whole(get, "HZEL_JOBS_PER_USER", 32, 1, 256)?,
            commands_days: u32::try_from(whole(get, "HZEL_COMMANDS_DAYS", 90, 1, 3650)?)
                .unwrap_or(u32::MAX),
            spool: spool::Limits {
                command: mebibytes(get, "HZEL_JOB_OUTPUT_MB", 2 << 10)?,
                total: mebibytes(get, "HZEL_JOB_OUTPUT_TOTAL_MB", 16 << 10)?,
            },
            upload_limit,
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

fn whole(
    get: Lookup<'_>,
    name: &str,
    default: usize,
    least: usize,
    most: usize,
) -> Result<usize, String> {
    let Some(text) = get(name) else {
        return Ok(default);
    };
    text.parse()
        .ok()
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("{name} must be a number from {least} to {most}, not {text}"))
}

/// In bytes.
fn mebibytes(get: Lookup<'_>, name: &str, default: usize) -> Result<u64, String> {
    Ok((whole(get, name, default, 1, 1 << 20)? as u64) << 20)
}

fn oidc(get: Lookup<'_>) -> Result<Option<OidcConfig>, String> {
    const NEEDED: [&str; 3] = [
        "HZEL_OIDC_ISSUER",
        "HZEL_OIDC_CLIENT_ID",
        "HZEL_OIDC_CLIENT_SECRET",
    ];
    const MORE: [&str; 3] = [
        "HZEL_OIDC_NAME",
        "HZEL_OIDC_ADMIN_CLAIM",
        "HZEL_OIDC_TRUST_EMAIL",
    ];
    let (issuer, client_id, client_secret) = match NEEDED.map(get) {
        [Some(issuer), Some(id), Some(secret)] => (issuer, id, secret),
        [None, None, None] => match MORE.iter().find(|name| get(name).is_some()) {
            Some(name) => return Err(format!("{name} is set without HZEL_OIDC_ISSUER")),
            None => return Ok(None),
        },
        some => {
            let missing = NEEDED.iter().zip(&some).find(|(_, value)| value.is_none());
            let name = missing.map_or("", |(name, _)| name);
            return Err(format!(
                "{name} must be set too: OpenID Connect needs all of {}",
                NEEDED.join(", ")
            ));
        }
    };
    let url = Url::parse(&issuer).ok();
    let good = |url: &Url| {
        crate::auth::oidc::is_safe(url) && url.query().is_none() && url.fragment().is_none()
    };
    if !url.as_ref().is_some_and(good) {
        return Err(format!(
            "HZEL_OIDC_ISSUER must be an https address such as https://id.example.org, not {issuer}"
        ));
    }
    let admin_claim = match get("HZEL_OIDC_ADMIN_CLAIM") {
        None => None,
        Some(text) => match text.split_once('=') {
            Some((claim, value)) if !claim.is_empty() && !value.is_empty() => {
                Some((claim.to_owned(), value.to_owned()))
            }
            _ => {
                return Err(format!(
                    "HZEL_OIDC_ADMIN_CLAIM must be a claim and a value such as groups=admins, not {text}"
                ));
            }
        },
    };
    let trust_email = match get("HZEL_OIDC_TRUST_EMAIL").as_deref() {
        None | Some("off") => false,
        Some("on") => true,
        Some(other) => {
            return Err(format!(
                "HZEL_OIDC_TRUST_EMAIL must be on or off, not {other}"
            ));
        }
    };
    Ok(Some(OidcConfig {
        issuer,
        client_id,
        client_secret: client_secret.into(),
        name: get("HZEL_OIDC_NAME").unwrap_or_else(|| "single sign-on".into()),
        admin_claim,
        trust_email,
    }))
}

/// A number with `s`, `m`, `h` or `d` behind it, at most a year.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let seconds = number.checked_mul(seconds)?;
    (1..=31_536_000)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

fn upload_limit(get: Lookup<'_>) -> Result<u64, String> {
    let Some(text) = get("HZEL_UPLOAD_LIMIT_MB") else {
        return Ok(1024 << 20);
    };
    text.parse::<u64>()
        .ok()
        .filter(|mib| (1..=1 << 20).contains(mib))
        .map(|mib| mib << 20)
        .ok_or_else(|| {
            format!("HZEL_UPLOAD_LIMIT_MB must be a number of MiB from 1 to 1048576, not {text}")
        })
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
        assert_eq!(config.commands_days, 90);
    }

    #[test]
    fn openid_connect_wants_its_three_and_https() {
        let with = |issuer: &str| {
            read(&[
                ("HZEL_OIDC_ISSUER", issuer),
                ("HZEL_OIDC_CLIENT_ID", "hzel"),
                ("HZEL_OIDC_CLIENT_SECRET", "secret"),
                ("HZEL_OIDC_ADMIN_CLAIM", "groups=hzel-admins"),
            ])
        };
        for good in ["https://id.example.org/realm", "http://127.0.0.1:3000"] {
            let oidc = with(good).unwrap_or_else(|e| panic!("{e}")).oidc;
            assert!(oidc.is_some_and(|oidc| oidc.issuer == good));
        }
        for bad in ["http://id.example.org", "id.example.org", "ftp://localhost"] {
            let message = with(bad).err().unwrap_or_default();
            assert!(message.contains("HZEL_OIDC_ISSUER"), "{message}");
        }
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
            ("HZEL_TERMINAL_IDLE", "1"),
            ("HZEL_TERMINAL_IDLE", "0h"),
            ("HZEL_SOCKETS_PER_USER", "0"),
            ("HZEL_JOBS_PER_CONTAINER", "many"),
            ("HZEL_JOBS_PER_USER", "-1"),
            ("HZEL_UPLOAD_LIMIT_MB", "0"),
            ("HZEL_COMMANDS_DAYS", "0"),
            ("HZEL_COMMANDS_DAYS", "3651"),
            ("HZEL_COMMANDS_DAYS", "1.5"),
            ("HZEL_JOB_OUTPUT_MB", "0"),
            ("HZEL_JOB_OUTPUT_TOTAL_MB", "x"),
            ("HZEL_OIDC_ISSUER", "https://id.example.org"),
            ("HZEL_OIDC_ADMIN_CLAIM", "groups=admins"),
        ] {
            let message = read(&[(name, value)]).err().unwrap_or_default();
            assert!(message.contains(name), "{name}: {message}");
        }
    }
}
