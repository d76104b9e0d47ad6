//! Embeds the pages' files into the binary: everything under `static/`, and the browser libraries
//! named in [`LIBRARIES`], each under an address that carries a hash of its content.
//!
//! To add a file, put it under `static/`. To add a library, add it to `package.json` (exact
//! version) and to [`LIBRARIES`]. Nothing here uses the network.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Browser libraries: the file inside its npm package, and its name under `/static/`.
const LIBRARIES: &[(&str, &str)] = &[
    ("htmx.org/dist/htmx.min.js", "htmx.js"),
    ("@xterm/xterm/lib/xterm.mjs", "xterm.js"),
    ("@xterm/xterm/css/xterm.css", "xterm.css"),
    ("@xterm/addon-fit/lib/addon-fit.mjs", "xterm-fit.js"),
];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-env-changed=WEB_ASSETS_DIR");

    let mut files = BTreeMap::new();
    collect(&root.join("static"), "", &mut files);

    let packages =
        env::var_os("WEB_ASSETS_DIR").map_or_else(|| root.join("node_modules"), PathBuf::from);
    for (inside, name) in LIBRARIES {
        let path = packages.join(inside);
        println!("cargo::rerun-if-changed={}", path.display());
        if !path.is_file() {
            println!(
                "cargo::error={} is missing: run `npm ci --ignore-scripts` in {}, or set \
                 WEB_ASSETS_DIR to a directory that holds the npm packages",
                path.display(),
                root.display()
            );
            return;
        }
        files.insert((*name).to_owned(), path);
    }

    fs::write(out.join("assets.rs"), table(&files, &out)).expect("OUT_DIR is writable");
}

/// Every file under `dir`, by its path relative to `static/`.
fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("reading {}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .expect("a UTF-8 file name");
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files);
        } else {
            files.insert(format!("{prefix}{name}"), path);
        }
    }
}

/// Rust source: a constant for each address, and the table that answers them.
fn table(files: &BTreeMap<String, PathBuf>, out: &Path) -> String {
    let mut urls = String::new();
    let mut rows = String::new();
    for (name, path) in files {
        let content = fs::read(path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()));
        // Not for security: it only has to change when the content does.
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        let hash = format!("{:016x}", hasher.finish());
        let (stem, extension) = name
            .rsplit_once('.')
            .unwrap_or_else(|| panic!("{name} has no extension"));
        let url = format!("/static/{stem}.{hash}.{extension}");
        let constant = name
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_")
            .to_uppercase();
        writeln!(
            urls,
            "    /// Where `{name}` is served.\n    pub const {constant}: &str = {url:?};"
        )
        .expect("writing to a String");
        let packed = out.join(format!("{constant}.gz"));
        fs::write(&packed, gzip(&content)).expect("OUT_DIR is writable");
        writeln!(
            rows,
            "    Asset {{ url: url::{constant}, content_type: {:?}, etag: {:?}, bytes: \
             include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            content_type(extension),
            format!("\"{hash}\""),
            path.display().to_string(),
            packed.display().to_string()
        )
        .expect("writing to a String");
    }
    format!(
        "/// The address of each embedded file.\npub mod url {{\n{urls}}}\n\nstatic ASSETS: \
         &[Asset] = &[\n{rows}];\n"
    )
}

/// As small as it gets: it is done once, here.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(content).expect("writing to a Vec");
    packer.finish().expect("writing to a Vec")
}

fn content_type(extension: &str) -> &'static str {
    match extension {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "txt" => "text/plain; charset=utf-8",
        other => panic!("static/ holds a .{other} file; name its content type in build.rs"),
    }
}
