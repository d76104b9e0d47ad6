//! What a command is asked for with, and what may be asked for.
//!
//! To give a command one more property: a field in [`CommandSpec`] and in [`NewCommand`] with its
//! rule in [`check`].

use std::collections::BTreeMap;

use crate::error::{Error, FieldError, Result};

/// Seconds a command may take when nothing is said.
const DEFAULT_TIMEOUT: i64 = 600;
/// Most seconds a command may take.
const MAX_TIMEOUT: i64 = 86_400;
/// Longest command line, argument or variable, in bytes; Linux itself stops at 128 KiB.
const MAX_TEXT: usize = 64 * 1024;

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CommandSpec {
    pub argv: Vec<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
}

/// What is asked for, as it was sent.
#[derive(Debug, Clone, Default)]
pub struct NewCommand {
    /// For the container's `/bin/sh -c`.
    pub command: Option<String>,
    /// A program run as it is, with `args`.
    pub program: Option<String>,
    pub args: Vec<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub user: Option<String>,
    pub timeout_seconds: Option<i64>,
}

/// Checks what was asked for: how it is shown, what is run, and for how many seconds at most.
pub(super) fn check(new: NewCommand) -> Result<(String, CommandSpec, i32)> {
    let mut wrong: Vec<FieldError> = Vec::new();
    let mut note = |field: &str, message: String| {
        wrong.push(FieldError {
            field: field.to_owned(),
            message,
        });
    };
    let bad_text = |text: &str| text.len() > MAX_TEXT || text.contains('\0');
    let (shown, argv) = match (new.command, new.program) {
        (None, None) => return Err(Error::BadRequest("command is required".into())),
        (Some(_), Some(_)) => {
            note(
                "program",
                "program must not be given together with command".into(),
            );
            (String::new(), Vec::new())
        }
        (Some(command), None) => {
            if command.trim().is_empty() {
                note("command", "command must not be empty".into());
            } else if bad_text(&command) {
                let rule = format!("command must have at most {MAX_TEXT} bytes and no NUL");
                note("command", rule);
            }
            if !new.args.is_empty() {
                note("args", "args must go with program, not with command".into());
            }
            (
                command.clone(),
                vec!["/bin/sh".into(), "-c".into(), command],
            )
        }
        (None, Some(program)) => {
            if program.trim().is_empty() || bad_text(&program) {
                let rule = format!("program must have 1 to {MAX_TEXT} bytes and no NUL");
                note("program", rule);
            }
            let total: usize = new.args.iter().map(String::len).sum();
            if new.args.len() > 1000
                || total > 16 * MAX_TEXT
                || new.args.iter().any(|a| bad_text(a))
            {
                note(
                    "args",
                    format!("args must be at most 1000 of {MAX_TEXT} bytes, with no NUL"),
                );
            }
            let mut argv = vec![program];
            argv.extend(new.args);
            (
                argv.iter()
                    .map(|word| quoted(word))
                    .collect::<Vec<_>>()
                    .join(" "),
                argv,
            )
        }
    };
    if new
        .cwd
        .as_ref()
        .is_some_and(|cwd| !cwd.starts_with('/') || cwd.len() > 4096 || bad_text(cwd))
    {
        note("cwd", "cwd must be an absolute path".into());
    }
    let bad_name = |name: &str| {
        name.is_empty()
            || name.len() > 256
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let total: usize = new.env.values().map(String::len).sum();
    if new.env.len() > 200
        || total > 4 * MAX_TEXT
        || new
            .env
            .iter()
            .any(|(name, value)| bad_name(name) || bad_text(value))
    {
        note(
            "env",
            "env must be at most 200 variables of letters, digits and underscores".into(),
        );
    }
    let bad_user = |user: &String| {
        user.is_empty()
            || user.len() > 32
            || !user
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
    };
    if new.user.as_ref().is_some_and(bad_user) {
        note(
            "user",
            "user must be a user's name or number in the container".into(),
        );
    }
    let timeout = new.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
    if !(1..=MAX_TIMEOUT).contains(&timeout) {
        note(
            "timeout_seconds",
            format!("timeout_seconds must be between 1 and {MAX_TIMEOUT}"),
        );
    }
    if wrong.is_empty() {
        let spec = CommandSpec {
            argv,
            cwd: new.cwd,
            env: new.env,
            user: new.user,
        };
        Ok((shown, spec, i32::try_from(timeout).unwrap_or(i32::MAX)))
    } else {
        Err(Error::Validation(wrong))
    }
}

/// A word as a shell would take it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_a_program_or_a_line() {
        assert!(matches!(
            check(NewCommand::default()),
            Err(Error::BadRequest(_))
        ));
        let line = NewCommand {
            command: Some("uname -a".into()),
            ..NewCommand::default()
        };
        let (shown, spec, timeout) = check(line).unwrap();
        assert_eq!((shown.as_str(), timeout), ("uname -a", 600));
        assert_eq!(spec.argv, ["/bin/sh", "-c", "uname -a"]);
    }

    #[test]
    fn programs_are_shown_as_a_shell_would_take_them() {
        let new = NewCommand {
            program: Some("echo".into()),
            args: vec!["it's".into(), "a b".into(), String::new()],
            ..NewCommand::default()
        };
        assert_eq!(check(new).unwrap().0, r"echo 'it'\''s' 'a b' ''");
    }

    #[test]
    fn bad_fields_are_named() {
        let new = NewCommand {
            command: Some("x".into()),
            cwd: Some("tmp".into()),
            user: Some("a b".into()),
            timeout_seconds: Some(0),
            ..NewCommand::default()
        };
        let error = check(new).unwrap_err();
        let fields: Vec<&str> = error.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["cwd", "user", "timeout_seconds"]);
    }
}
