//! Which block of addresses an installation has: the one in `native/network.json`, or one chosen
//! now and written there.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::claim::{self, Claim};
use super::netlink::{Netlink, Route};
use super::resolver::Resolver;
use super::subnet::Subnet;
use super::{failed, prefix};
use crate::runtime::RuntimeError;

/// `network.json`.
#[derive(serde::Serialize, serde::Deserialize)]
struct Remembered {
    subnet: String,
}

/// Reads the remembered block.
fn remembered(file: &Path) -> Result<Option<Subnet>, RuntimeError> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let read: Remembered = serde_json::from_slice(&bytes)
        .map_err(|cause| failed(io::Error::other(format!("{}: {cause}", file.display()))))?;
    Subnet::parse(&read.subnet).map(Some).ok_or_else(|| {
        failed(io::Error::other(format!(
            "{}: {} is no subnet",
            file.display(),
            read.subnet
        )))
    })
}

/// The block an installation has chosen, if it has one that can be read.
pub fn remembered_in(data_dir: &Path) -> Option<Subnet> {
    remembered(&file_in(data_dir)).ok().flatten()
}

/// Where the block is remembered.
pub fn file_in(data_dir: &Path) -> PathBuf {
    data_dir.join("native").join("network.json")
}

/// The remembered block; or a new one, when there is none yet or another installation's server has
/// taken it while nothing of this one ran.
pub fn take_up(file: &Path, instance: &str) -> Result<(Subnet, Option<Claim>), RuntimeError> {
    if let Some(subnet) = remembered(file)? {
        match claim(subnet, instance) {
            Ok(Some(claim)) => return Ok((subnet, Some(claim))),
            // Not root, or nowhere to put locks: whatever is wrong is wrong elsewhere too.
            Err(cause) => {
                tracing::debug!(%cause, "the block of addresses is not locked");
                return Ok((subnet, None));
            }
            Ok(None) => {
                let prefix = prefix(instance);
                let links = Netlink::open().and_then(|mut host| host.links());
                if links
                    .map_err(failed)?
                    .iter()
                    .any(|name| name.starts_with(&prefix))
                {
                    tracing::warn!(%subnet, "another installation uses the same addresses");
                    return Ok((subnet, None));
                }
                tracing::info!(%subnet, "another installation has taken the addresses; choosing others");
            }
        }
    }
    choose(file, instance)
}

/// Chooses a block that is free on this machine, and remembers it.
fn choose(file: &Path, instance: &str) -> Result<(Subnet, Option<Claim>), RuntimeError> {
    let routes: Vec<Route> = Netlink::open()
        .and_then(|mut host| host.routes())
        .map_err(failed)?;
    let servers = match Resolver::of_this_machine() {
        Resolver::Servers(list) => list,
        _ => Vec::new(),
    };
    let (subnet, claim) = Subnet::suitable(&routes, &servers)
        .find_map(|subnet| match claim(subnet, instance) {
            Ok(Some(claim)) => Some((subnet, Some(claim))),
            Ok(None) => None,
            Err(cause) => {
                tracing::debug!(%cause, "the block of addresses is not locked");
                Some((subnet, None))
            }
        })
        .ok_or_else(|| {
            RuntimeError::Unavailable(
                "no private network is free: this machine has routes to all of 10.209.0.0/16 to \
                 10.254.0.0/16 and 172.20.0.0/16 to 172.29.0.0/16"
                    .into(),
            )
        })?;
    let text = serde_json::to_vec(&Remembered {
        subnet: subnet.to_string(),
    })
    .map_err(|cause| failed(cause.into()))?;
    write_whole(file, &text).map_err(failed)?;
    Ok((subnet, claim))
}

/// Claims a block where all servers of this machine do.
fn claim(subnet: Subnet, instance: &str) -> io::Result<Option<Claim>> {
    claim::claim(Path::new(claim::DIRECTORY), subnet, instance)
}

/// Writes a file so that after a crash it is there whole or not at all.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = file
        .parent()
        .ok_or_else(|| io::Error::other("no directory"))?;
    std::fs::create_dir_all(directory)?;
    let mut temporary = PathBuf::from(file);
    temporary.set_extension("new");
    let mut new = std::fs::File::create(&temporary)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    std::fs::rename(&temporary, file)?;
    std::fs::File::open(directory)?.sync_all()
}
