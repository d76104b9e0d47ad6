//! What this machine can and cannot do for containers, and how to mend it.
//!
//! Every check is a function that looks, changes nothing and gives one [`Finding`]; it must not
//! panic and not take long. To add one, write it beside its kin (`machine` for the kernel and its
//! devices, `programs` for what is installed, `networking`) and name it in [`examine`].

mod machine;
mod networking;
mod programs;

use super::NativeConfig;
use crate::runtime::{Finding, FindingLevel};

/// Looks at everything that could keep containers from working.
pub async fn examine(config: &NativeConfig) -> Vec<Finding> {
    let config = config.clone();
    let looked = tokio::task::spawn_blocking(move || {
        // Independent of one another, and some start a program: side by side.
        std::thread::scope(|scope| {
            let network = scope.spawn(|| networking::examine(&config.data_dir));
            let programs = scope.spawn(|| programs::examine(&config));
            let mut findings = machine::examine(&config.data_dir);
            for group in [programs, network] {
                findings.extend(group.join().unwrap_or_else(|_| vec![gave_up()]));
            }
            findings
        })
    });
    looked.await.unwrap_or_else(|_| vec![gave_up()])
}

/// What is reported instead of a check that has a fault itself.
fn gave_up() -> Finding {
    warning("doctor", "a check failed to run", "see the server's log")
}

fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        name,
        level: FindingLevel::Ok,
        detail: detail.into(),
        remedy: String::new(),
    }
}

fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    let (detail, remedy) = (detail.into(), remedy.into());
    Finding {
        name,
        level: FindingLevel::Warning,
        detail,
        remedy,
    }
}

fn broken(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    let (detail, remedy) = (detail.into(), remedy.into());
    Finding {
        name,
        level: FindingLevel::Broken,
        detail,
        remedy,
    }
}

/// A small file's text, trimmed; empty when it cannot be read.
fn text(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Where a program is, by the search path and where administrators' programs usually are.
fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// What a program says, when it is there and succeeds.
fn output(name: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program(name)?)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever machine this is, an answer comes soon, and what is not well has a remedy.
    #[tokio::test]
    async fn every_complaint_has_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let config = NativeConfig {
            keep_unclaimed: std::time::Duration::ZERO,
            data_dir: directory.path().to_owned(),
            oci_runtime: super::super::OciRuntimeChoice::Auto,
        };
        let findings = examine(&config).await;
        assert!(findings.len() > 10);
        for finding in findings {
            let well = finding.level == FindingLevel::Ok;
            assert_eq!(well, finding.remedy.is_empty(), "{finding:?}");
            assert!(!finding.detail.is_empty(), "{finding:?}");
        }
    }
}
