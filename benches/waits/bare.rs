//! The yardstick of the engine: the OCI runtime by itself, with the same bundle.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Result;
use super::server::Server;

fn oci_runtime() -> Result<&'static str> {
    ["crun", "runc"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .ok_or_else(|| "neither crun nor runc is installed".into())
}

pub fn run(command: &mut Command) -> Result<()> {
    // Not `/dev/null`: a runtime gives a container's root whatever standard streams it is called
    // with, and that device is everybody's.
    let (nothing, end) = std::io::pipe()?;
    drop(end);
    let (_unread, said) = std::io::pipe()?;
    let status = command.stdin(nothing).stdout(said).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

/// The bundle of a container of ours, on a root file system that is mounted already: what is left
/// for the bare runtime is the sandbox alone, with the same namespaces, limits and filter.
pub struct Bare {
    runtime: &'static str,
    root: PathBuf,
    bundle: PathBuf,
    config: Value,
}

impl Bare {
    pub fn like(server: &Server, id: &str) -> Result<Self> {
        let dir = server.data.join("bare");
        let (bundle, root, rootfs) = (dir.join("bundle"), dir.join("oci"), dir.join("rootfs"));
        let (scratch, console) = (dir.join("scratch"), dir.join("console"));
        for path in [&bundle, &root, &rootfs, &scratch] {
            fs::create_dir_all(path)?;
        }
        fs::write(&console, "")?;
        let text = fs::read_to_string(server.run_dir()?.join(id).join("bundle/config.json"))?;
        let mut config: Value = serde_json::from_str(&text)?;
        let base = config["linux"]["uidMappings"][0]["hostID"]
            .as_u64()
            .ok_or("no mapping")?;
        let owner = Some(u32::try_from(base)?);
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&scratch))?;
        for name in ["upper", "work"] {
            fs::create_dir(scratch.join(name))?;
            chown(scratch.join(name), owner, owner)?;
        }
        let images = server.data.join("native/images");
        // Beside the image there is the store's lock.
        let image = fs::read_dir(images)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.is_dir())
            .ok_or("no image")?;
        let lower = fs::read_dir(image)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.join("bin").exists())
            .ok_or("no root file system")?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            scratch.join("upper").display(),
            scratch.join("work").display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(options)
            .arg(&rootfs))?;
        config["root"]["path"] = json!(rootfs);
        config["process"]["args"] = json!(["/bin/sleep", "1000"]);
        if let Some(mounts) = config["mounts"].as_array_mut() {
            for mount in mounts {
                if mount["destination"] == "/dev/console" {
                    mount["source"] = json!(console);
                }
            }
        }
        Ok(Self {
            runtime: oci_runtime()?,
            root,
            bundle,
            config,
        })
    }

    pub fn create_and_start(&mut self, name: &str) -> Result<Duration> {
        self.config["linux"]["cgroupsPath"] =
            json!(format!("/hzel-bench-{}/{name}", std::process::id()));
        fs::write(self.bundle.join("config.json"), self.config.to_string())?;
        let began = Instant::now();
        run(self
            .command()
            .args(["create", "--bundle"])
            .arg(&self.bundle)
            .arg(name))?;
        run(self.command().args(["start", name]))?;
        Ok(began.elapsed())
    }

    pub fn exec(&self, name: &str) -> Result<Duration> {
        let began = Instant::now();
        run(self.command().args(["exec", name, "/bin/sh", "-c", "true"]))?;
        Ok(began.elapsed())
    }

    pub fn delete(&self, name: &str) -> Result<()> {
        run(self.command().args(["delete", "--force", name]))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime);
        command.arg("--root").arg(&self.root);
        command
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for name in ["rootfs", "scratch"] {
            let dir = self.bundle.with_file_name(name);
            // What is left mounted ends with this namespace.
            let _unmounted = Command::new("umount").arg(&dir).status();
        }
    }
}
