//! Kernel settings of the network namespace of the calling thread, by their path below
//! `/proc/sys`.

use std::io;

/// The value, without the line's end; empty when this kernel has no such setting.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{path}"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Sets a value.
///
/// # Errors
/// When there is no such setting, or it is read-only here.
pub fn write(path: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/{path}"), value)
        .map_err(|cause| io::Error::new(cause.kind(), format!("/proc/sys/{path}: {cause}")))
}
