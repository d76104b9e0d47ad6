//! Programs of `tests/node`, for Node.js, that a test talks to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running one; it ends with the test.
pub struct Node {
    child: Child,
    pub url: String,
}

impl Node {
    /// Starts `script` on that port, and waits until it says that it is ready.
    pub fn start(script: &str, port: u16, more: &[&str]) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        assert!(
            dir.join("node_modules").exists(),
            "tests/node/node_modules is missing: run .ci/setup"
        );
        let mut child = Command::new("node")
            .arg(dir.join(script))
            .arg(port.to_string())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let out = child.stdout.take().expect("it was asked for");
        let mut lines = BufReader::new(out).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.starts_with("ready on ")));
        assert!(ready, "{script} did not start");
        // It may go on writing, and must not be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
