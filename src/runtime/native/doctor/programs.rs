//! What has to be installed.

use std::path::Path;

use super::super::NativeConfig;
use super::super::images::ImageStore;
use super::super::oci_runtime::OciRuntime;
use super::{broken, ok, output, program, warning};
use crate::runtime::{Finding, RuntimeError};

/// All checks of this kind.
pub fn examine(config: &NativeConfig) -> Vec<Finding> {
    vec![
        oci_runtime(config),
        default_image(config),
        small_init(),
        own_numbers(),
    ]
}

fn oci_runtime(config: &NativeConfig) -> Finding {
    const NAME: &str = "OCI runtime";
    // Only asked for its version: the directory of its state is not touched.
    match OciRuntime::find(&config.oci_runtime, std::env::temp_dir()) {
        Ok(found) => ok(NAME, found.version),
        Err(RuntimeError::Unavailable(reason)) => broken(
            NAME,
            reason,
            "apt-get install crun, or name another by HZEL_OCI_RUNTIME",
        ),
        Err(other) => broken(NAME, other.to_string(), "apt-get install crun"),
    }
}

fn default_image(config: &NativeConfig) -> Finding {
    const NAME: &str = "default image";
    let store = ImageStore::new(config.data_dir.join("native").join("images"));
    if let Ok(image) = store.open("default") {
        return ok(NAME, format!("{}, ready", image.description));
    }
    match output("mmdebstrap", &["--version"]) {
        Some(version) => ok(NAME, format!("can be made with {}", version.trim())),
        None => warning(
            NAME,
            "it cannot be made here, as mmdebstrap is missing",
            "apt-get install mmdebstrap, or set HZEL_IMAGE to a registry reference",
        ),
    }
}

fn small_init() -> Finding {
    const NAME: &str = "init for images without one";
    if program("tini-static").is_some() {
        return ok(NAME, "tini-static");
    }
    warning(
        NAME,
        "tini-static is missing: most images of registries have no init, and cannot start",
        "apt-get install tini",
    )
}

fn own_numbers() -> Finding {
    const NAME: &str = "lxcfs";
    if Path::new("/var/lib/lxcfs/proc/meminfo").exists() {
        return ok(NAME, "runs");
    }
    warning(
        NAME,
        "it does not run: free and nproc show the machine's memory and processors in containers",
        "apt-get install lxcfs",
    )
}
