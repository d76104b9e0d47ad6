//! Images from registries that speak the OCI distribution protocol.
//!
//! Only the file system and the environment are taken: a box is not an application, so the
//! image's command is not run.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWrite;

use super::problem::Problem;
use super::unpack::{self, Archive};
use crate::runtime::ImageProgress;

const CONNECT: Duration = Duration::from_secs(20);
/// The longest silence in the middle of a download.
const SILENCE: Duration = Duration::from_secs(60);
/// How much bigger a layer gets when it is unpacked, roughly; checked again as it is.
const GROWTH: u64 = 3;
/// The percentages at which the download begins and ends.
const DOWNLOAD: (u8, u8) = (2, 60);

/// What was downloaded.
#[derive(Debug)]
pub struct Pulled {
    /// The layers, lowest first.
    pub layers: Vec<Archive>,
    pub env: Vec<(String, String)>,
}

/// The part of an image's configuration that a box needs.
#[derive(serde::Deserialize)]
struct Configuration {
    os: Option<String>,
    architecture: Option<String>,
    config: Option<Execution>,
}

#[derive(serde::Deserialize)]
struct Execution {
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

/// Downloads what `reference` names into `work`.
pub async fn pull(
    reference: &str,
    work: &Path,
    progress: &ImageProgress,
) -> Result<Pulled, Problem> {
    let parsed: Reference = reference
        .parse()
        .map_err(|cause| Problem::Broken(format!("{reference} is no reference: {cause}")))?;
    // Fails when it is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let client = Client::new(ClientConfig {
        protocol: if is_loopback(parsed.registry()) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(CONNECT),
        read_timeout: Some(SILENCE),
        ..ClientConfig::default()
    });
    let explain = |cause: OciDistributionError| explain(&parsed, &cause);
    progress("asking the registry", 0);
    let auth = credentials(parsed.registry()).await;
    let (manifest, _, configuration) = client
        .pull_manifest_and_config(&parsed, &auth)
        .await
        .map_err(explain)?;
    let env = environment(reference, &configuration)?;

    let size = |layer: &oci_client::manifest::OciDescriptor| u64::try_from(layer.size).unwrap_or(0);
    let total: u64 = manifest.layers.iter().map(size).sum();
    unpack::room(work, total.saturating_mul(1 + GROWTH))?;
    let got = Arc::new(AtomicU64::new(0));
    let mut layers = Vec::new();
    for (number, layer) in manifest.layers.iter().enumerate() {
        let file = work.join(format!("layer-{number}"));
        let out = Counted {
            file: tokio::fs::File::create(&file).await?,
            left: size(layer),
            got: Arc::clone(&got),
            total,
            progress: Arc::clone(progress),
        };
        client
            .pull_blob(&parsed, layer, out)
            .await
            .map_err(explain)?;
        layers.push(Archive {
            file,
            whiteouts: true,
        });
    }
    Ok(Pulled { layers, env })
}

/// Whether a registry is on this machine, where there is no TLS.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The environment of an image, when it is one for this machine.
fn environment(reference: &str, configuration: &str) -> Result<Vec<(String, String)>, Problem> {
    let read: Configuration = serde_json::from_str(configuration).map_err(|cause| {
        Problem::Broken(format!(
            "the registry's description of {reference} is damaged: {cause}"
        ))
    })?;
    let expected = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let architecture = read.architecture.as_deref().unwrap_or(expected);
    let os = read.os.as_deref().unwrap_or("linux");
    if os != "linux" || architecture != expected {
        return Err(Problem::Broken(format!(
            "{reference} is made for {os}/{architecture}, and this machine is linux/{expected}"
        )));
    }
    let env = read
        .config
        .and_then(|config| config.env)
        .unwrap_or_default();
    Ok(env
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// What Docker's own configuration file has for a registry.
async fn credentials(registry: &str) -> RegistryAuth {
    let directory = std::env::var_os("DOCKER_CONFIG").map_or_else(
        || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")),
        |directory| Some(PathBuf::from(directory)),
    );
    let Some(file) = directory.map(|directory| directory.join("config.json")) else {
        return RegistryAuth::Anonymous;
    };
    match tokio::fs::read(&file).await {
        Ok(bytes) => credentials_in(&bytes, registry),
        Err(_) => RegistryAuth::Anonymous,
    }
}

fn credentials_in(config: &[u8], registry: &str) -> RegistryAuth {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        auths: std::collections::HashMap<String, Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        auth: Option<String>,
    }
    let host = |key: &str| -> String {
        let key = key
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let asked = if registry == "docker.io" {
        "index.docker.io"
    } else {
        registry
    };
    let found = serde_json::from_slice::<Config>(config)
        .ok()
        .and_then(|config| {
            let entry = config
                .auths
                .into_iter()
                .find(|(key, _)| host(key) == asked)?
                .1;
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(entry.auth?)
                .ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (user, password) = text.split_once(':')?;
            Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
        });
    found.unwrap_or(RegistryAuth::Anonymous)
}

/// What a registry's refusal means, for people.
fn explain(reference: &Reference, cause: &OciDistributionError) -> Problem {
    let registry = reference.registry();
    tracing::warn!(%reference, %cause, "a pull failed");
    Problem::Broken(match cause {
        OciDistributionError::ImageManifestNotFoundError(text)
            if text.contains("platform") || text.contains("no entry found") =>
        {
            format!("{reference} has no variant for this machine's processor")
        }
        OciDistributionError::ImageManifestNotFoundError(_) => {
            format!("there is no {reference}")
        }
        OciDistributionError::ServerError { code: 404, .. } => format!("there is no {reference}"),
        OciDistributionError::RegistryError { envelope, .. } => {
            use oci_client::errors::OciErrorCode as Code;
            let is = |code: Code| envelope.errors.iter().any(|error| error.code == code);
            if is(Code::ManifestUnknown) || is(Code::NameUnknown) || is(Code::NotFound) {
                format!("there is no {reference}")
            } else if is(Code::Unauthorized) || is(Code::Denied) {
                format!("{registry} does not give {reference} to everyone, or has none")
            } else if is(Code::Toomanyrequests) {
                format!("{registry} limits how much may be downloaded; try again later")
            } else {
                format!("{registry} refuses to give {reference}")
            }
        }
        OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::UnauthorizedError { .. } => {
            format!("{registry} does not give {reference} to everyone, or has none")
        }
        OciDistributionError::RequestError(_) => {
            format!("the registry {registry} cannot be reached")
        }
        OciDistributionError::DigestError(_) => {
            format!("what {registry} sent is not what its digest says")
        }
        OciDistributionError::IoError(cause) => match cause.raw_os_error() {
            Some(libc::ENOSPC) => {
                return Problem::NoSpace("the image's layers do not fit on the disk".into());
            }
            // Ours: more came than the manifest says.
            None if cause.kind() == std::io::ErrorKind::InvalidData => cause.to_string(),
            _ => return Problem::Failed(cause.to_string()),
        },
        OciDistributionError::IncompatibleLayerMediaTypeError(kind)
        | OciDistributionError::UnsupportedMediaTypeError(kind) => {
            format!("{reference} is not an image of files: {kind}")
        }
        _ => format!("{registry} does not answer as a registry should"),
    })
}

/// A file that takes no more than it was told to, and tells how much of all came.
struct Counted {
    file: tokio::fs::File,
    left: u64,
    got: Arc<AtomicU64>,
    total: u64,
    progress: ImageProgress,
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if bytes.len() as u64 > self.left {
            return Poll::Ready(Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the registry sent more than the image's manifest says",
            )));
        }
        let written = std::task::ready!(Pin::new(&mut self.file).poll_write(context, bytes))?;
        self.left -= written as u64;
        let before = self.got.fetch_add(written as u64, Ordering::Relaxed);
        let now = before + written as u64;
        let percent = |bytes: u64| {
            let width = u64::from(DOWNLOAD.1 - DOWNLOAD.0);
            DOWNLOAD.0
                + u8::try_from(width * bytes.min(self.total) / self.total.max(1)).unwrap_or(0)
        };
        if percent(before) != percent(now) {
            let step = format!(
                "downloading: {} of {} MiB",
                now >> 20,
                self.total.div_ceil(1 << 20)
            );
            (self.progress)(&step, percent(now));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_tls() {
        for local in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "127.3.2.1",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for other in [
            "docker.io",
            "localhost.example.net",
            "10.0.0.1:5000",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn the_environment_is_kept() {
        let text = r#"{"os":"linux","config":{"Env":["PATH=/bin","A=b=c","broken"],"Cmd":["x"]}}"#;
        assert_eq!(
            environment("x", text).unwrap(),
            [("PATH".into(), "/bin".into()), ("A".into(), "b=c".into())]
        );
        assert!(environment("x", r#"{"os":"windows"}"#).is_err());
        assert!(environment("x", r#"{"os":"linux","architecture":"vax"}"#).is_err());
        assert!(environment("x", "{}").unwrap().is_empty());
    }

    #[test]
    fn dockers_credentials_are_used() {
        let config =
            br#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpiOmM="},"r.example:5000":{}}}"#;
        assert_eq!(
            credentials_in(config, "docker.io"),
            RegistryAuth::Basic("a".into(), "b:c".into())
        );
        assert_eq!(
            credentials_in(config, "r.example:5000"),
            RegistryAuth::Anonymous
        );
        assert_eq!(
            credentials_in(b"nonsense", "docker.io"),
            RegistryAuth::Anonymous
        );
    }
}
