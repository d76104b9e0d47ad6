//! Accounts, tokens, audit and the database from the command line.
//!
//! To add a command for another noun, translate its arguments here and call the domain.

use std::io::{BufRead, Write};

use chrono::TimeDelta;

use super::{NewTokenArgs, NewUserArgs, Outcome, UserCommand, open};
use crate::config::Config;
use crate::domain::audit::{self, Verified};
use crate::domain::tokens::{self, NewToken};
use crate::domain::users::{self, NewUser, Role, Status};
use crate::error::Error;
use crate::web::openapi::document;

fn told(error: Error) -> String {
    match error {
        Error::Internal { cause } => cause,
        other => other.message(),
    }
}

fn role_of(text: &str) -> Result<Role, String> {
    Role::from_text(text).ok_or_else(|| format!("role must be admin or user, not {text}"))
}

pub async fn user(config: Config, command: UserCommand) -> Outcome {
    let ctx = open::ctx(config)?;
    match command {
        UserCommand::Create(args) => {
            let NewUserArgs {
                email,
                display_name,
                role,
                password_stdin: _,
            } = args;
            let role = role_of(&role)?;
            let mut line = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut line)
                .map_err(|e| format!("the password cannot be read: {e}"))?;
            let password = line.trim_end_matches(['\r', '\n']).to_owned();
            let new = NewUser {
                email,
                display_name,
                role,
                password,
            };
            let made = users::create(&ctx, new).await.map_err(told)?;
            println!("{} {} {}", made.id, made.email, made.role);
        }
        UserCommand::List => {
            for user in users::list(&ctx).await.map_err(told)? {
                println!(
                    "{}\t{}\t{}\t{}\t{}",
                    user.id, user.email, user.role, user.status, user.display_name
                );
            }
        }
        UserCommand::Disable { email } => {
            let user = users::set_status(&ctx, &email, Status::Disabled)
                .await
                .map_err(told)?;
            println!("{} is disabled", user.email);
        }
        UserCommand::Enable { email } => {
            let user = users::set_status(&ctx, &email, Status::Active)
                .await
                .map_err(told)?;
            println!("{} is active", user.email);
        }
        UserCommand::SetRole { email, role } => {
            let user = users::set_role(&ctx, &email, role_of(&role)?)
                .await
                .map_err(told)?;
            println!("{} is {}", user.email, user.role);
        }
    }
    Ok(())
}

pub async fn create_token(config: Config, args: NewTokenArgs) -> Outcome {
    let ctx = open::ctx(config)?;
    let user = users::find(&ctx, &args.user).await.map_err(told)?;
    let expires_at = match &args.expires_in {
        Some(text) => Some(ctx.now().plus(duration(text)?)),
        None => None,
    };
    let new = NewToken {
        name: args.name,
        expires_at,
        scopes: args.scopes,
    };
    let (_, secret) = tokens::create_for(&ctx, &user.id, new)
        .await
        .map_err(told)?;
    println!("{secret}");
    Ok(())
}

/// A number with `m`, `h` or `d` behind it.
fn duration(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("--expires-in must be like 90m, 12h or 30d, not {text}");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    let delta = match unit {
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    };
    delta
        .filter(|delta| *delta > TimeDelta::zero())
        .ok_or_else(wrong)
}

pub async fn verify_audit(config: Config) -> Outcome {
    let ctx = open::ctx(config)?;
    match audit::verify(&ctx).await.map_err(told)? {
        Verified::Whole(count) => {
            println!("the audit log is whole: {count} entries");
            Ok(())
        }
        Verified::Broken { seq } => Err(format!(
            "the audit log is broken: entry {seq} does not follow those before it"
        )),
    }
}

pub fn migrate(config: Config) -> Outcome {
    let db = open::database(&config, 1)?;
    println!("{} is at this version", db.engine());
    Ok(())
}

pub fn openapi(config: &Config) -> Outcome {
    let document = document(config.public_url.as_str());
    let text = serde_json::to_string_pretty(&document).map_err(|e| e.to_string())?;
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30d").unwrap(), TimeDelta::days(30));
        assert_eq!(duration("12h").unwrap(), TimeDelta::hours(12));
        for bad in ["", "30", "d", "-1d", "0h", "3w", "9999999999999999d", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
