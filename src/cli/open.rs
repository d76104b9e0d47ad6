//! What most commands begin with: the log, the data directory, the database, the engine.
//!
//! To keep one more small file in the data directory, add its function here.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::cookie::Key;
use tracing_subscriber::EnvFilter;

use crate::app::{App, Entropy, SystemEntropy, Trust};
use crate::auth::oidc::Provider;
use crate::auth::sealed::Sealer;
use crate::config::Config;
use crate::db::Db;
use crate::domain::ctx::Ctx;
use crate::domain::passkeys;
use crate::runtime::Runtime;
use crate::runtime::native::{NativeConfig, NativeRuntime, OciRuntimeChoice};

/// Connections to the database.
const CONNECTIONS: u32 = 8;
/// Connections that a command beside the server takes.
const FEW_CONNECTIONS: u32 = 2;

/// Writes the log to standard error; commands beside the server only warn.
pub fn log(config: &Config, serving: bool) {
    let filter = if serving { config.log.as_str() } else { "warn" };
    let done = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let Err(error) = done {
        eprintln!("hzel: the log cannot be written: {error}");
    }
}

/// The data directory, made if it is missing, for nobody else to read.
pub fn data_dir(config: &Config) -> Result<&Path, String> {
    let dir = config.data_dir.as_path();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| format!("HZEL_DATA_DIR {} cannot be made: {e}", dir.display()))?;
    Ok(dir)
}

/// The database, at this version's tables.
pub fn database(config: &Config, connections: u32) -> Result<Db, String> {
    data_dir(config)?;
    let db = Db::open(&config.database, connections).map_err(|e| {
        format!(
            "DATABASE_URL: {} cannot be opened: {e}",
            config.database.engine()
        )
    })?;
    let applied = db
        .migrate()
        .map_err(|e| format!("DATABASE_URL: migrating failed: {e}"))?;
    for name in applied {
        tracing::info!(migration = %name, "applied");
    }
    Ok(db)
}

/// The engine; it touches nothing before it is used.
pub fn engine(config: &Config) -> Result<Arc<dyn Runtime>, String> {
    let oci_runtime = match config.oci_runtime.as_str() {
        "auto" => OciRuntimeChoice::Auto,
        path => OciRuntimeChoice::Path(PathBuf::from(path)),
    };
    let native = NativeConfig {
        data_dir: config.data_dir.clone(),
        oci_runtime,
        keep_unclaimed: config.keep_unclaimed,
    };
    let runtime = NativeRuntime::new(native).map_err(|e| format!("HZEL_RUNTIME: {e}"))?;
    Ok(Arc::new(runtime))
}

/// Everything together.
pub fn app(config: Config, serving: bool) -> Result<App, String> {
    let db = database(
        &config,
        if serving {
            CONNECTIONS
        } else {
            FEW_CONNECTIONS
        },
    )?;
    let runtime = engine(&config)?;
    let node = node_name(&config)?;
    let sealer = Sealer::new(&key(&config)?).map_err(|e| format!("cannot start: {e}"))?;
    let oidc = match config.oidc.clone() {
        Some(oidc) => Some(Provider::new(oidc, &config.public_url)?),
        None => None,
    };
    let trust = Trust {
        sealer,
        oidc,
        passkeys: passkeys::relying_party(&config)?,
    };
    Ok(App::new(config, db, runtime, node, trust))
}

/// For a command that acts beside the server.
pub fn ctx(config: Config) -> Result<Ctx, String> {
    Ok(Ctx::system(app(config, false)?, "cli"))
}

/// This machine's name in rows; kept, for the machine may be renamed and its containers stay.
fn node_name(config: &Config) -> Result<String, String> {
    let path = data_dir(config)?.join("node");
    if let Ok(kept) = fs::read_to_string(&path)
        && !kept.trim().is_empty()
    {
        return Ok(kept.trim().to_owned());
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    write_once(&path, name.as_bytes())?;
    fs::read_to_string(&path)
        .map(|kept| kept.trim().to_owned())
        .map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

/// The key that signs the session cookie.
pub fn cookie_key(config: &Config) -> Result<Key, String> {
    Ok(Key::from(&key(config)?))
}

/// The data directory's own key, made at the first start.
fn key(config: &Config) -> Result<Vec<u8>, String> {
    let path = data_dir(config)?.join("key");
    if !path.exists() {
        let mut bytes = [0_u8; 64];
        SystemEntropy.fill(&mut bytes);
        write_once(&path, &bytes)?;
    }
    let bytes = fs::read(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    if bytes.len() < 64 {
        return Err(format!(
            "{} is damaged: it must have 64 bytes",
            path.display()
        ));
    }
    Ok(bytes)
}

/// Writes a small file whole or not at all; one that another process wrote first stays.
fn write_once(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{} cannot be written: {e}", path.display());
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(failed)?;
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(e)),
        _ => Ok(()),
    }
}
