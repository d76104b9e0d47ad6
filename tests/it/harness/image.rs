//! The default image, made once by `hzel image add` and kept under the target directory for as
//! long as its recipe stays as it is; every server gets it as hard links.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lock::Lock;
use super::process;

/// Whoever changes the recipe wants it tried.
const RECIPE: &str = concat!(
    include_str!("../../../src/runtime/native/images/default.rs"),
    include_str!("../../../src/runtime/native/images/init.rs"),
);

/// The name that the server gives its default image: the distribution's.
pub fn default_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_lowercase())
            .unwrap_or_default()
    };
    let name = format!("{}-{}", value("ID"), value("VERSION_ID"));
    name.trim_matches('-').to_owned()
}

/// The finished image's directory in its store; made now if this is the first test that asks.
pub fn made() -> PathBuf {
    let tag = RECIPE.bytes().fold(0_u64, |sum, b| {
        sum.wrapping_mul(1_099_511_628_211) ^ u64::from(b)
    });
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = tmp.join(format!("image-{tag:016x}"));
    let _making = Lock::exclusive(&tmp.join("image.lock"));
    let image = home.join("native/images").join(default_name());
    if !image.join("image.json").exists() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hzel"));
        command
            .args(["image", "add", &default_name(), "default"])
            .env("HZEL_DATA_DIR", &home)
            .env_remove("DATABASE_URL");
        let output = process::run(command, "");
        assert_eq!(
            output.code,
            Some(0),
            "the default image could not be made: {}\n{}",
            output.stderr,
            doctor()
        );
    }
    image
}

/// Gives it to the server whose data directory that is.
pub fn link_into(data_dir: &Path) {
    let store = data_dir.join("native/images");
    fs::create_dir_all(&store).expect("the image store");
    let mut command = Command::new("cp");
    command.args(["-a", "--link"]).arg(made()).arg(&store);
    process::run(command, "").ok();
}

/// What this machine lacks, in the program's own words.
pub fn doctor() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hzel"));
    command
        .arg("doctor")
        .env("HZEL_DATA_DIR", dir.path())
        .env_remove("DATABASE_URL");
    let output = process::run(command, "");
    format!("hzel doctor:\n{}{}", output.stdout, output.stderr)
}
