//! A PostgreSQL of the bench's own.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use super::Result;
use super::bare::run;

/// Ends with this.
pub struct Postgres {
    bin: PathBuf,
    home: PathBuf,
    pub url: String,
}

impl Postgres {
    /// Starts one with the settings it comes with; `None` where it is not installed.
    pub fn start() -> Result<Option<Self>> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let bin = versions
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .find(|bin| bin.join("initdb").exists());
        let Some(bin) = bin else { return Ok(None) };
        let home = PathBuf::from(format!(
            "/var/tmp/hzel-bench-{}-cluster",
            std::process::id()
        ));
        fs::create_dir_all(&home)?;
        run(Command::new("chown").arg("postgres").arg(&home))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let postgres = Self { bin, home, url };
        run(postgres.program("initdb").args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
        ]))?;
        let options =
            format!("-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories=");
        run(postgres
            .program("pg_ctl")
            .args(["start", "--wait", "--silent", "-l", "/dev/null", "-o"])
            .arg(options))?;
        Ok(Some(postgres))
    }

    /// PostgreSQL refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("runuser");
        command
            .args(["-u", "postgres", "--"])
            .arg(self.bin.join(name))
            .arg("-D")
            .arg(self.home.join("data"))
            .current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stop = run(self
            .program("pg_ctl")
            .args(["stop", "-m", "immediate", "--silent"]));
        if let Err(error) = stop.and_then(|()| Ok(fs::remove_dir_all(&self.home)?)) {
            eprintln!("{} stays: {error}", self.home.display());
        }
    }
}
