//! The command line: the server, and what an operator does beside it.
//!
//! To add a command: a variant in [`Command`], a file or function for it, and its line in the
//! README. Each one acts through the domain, as `Actor::System("cli")`.

mod admin;
mod doctor;
mod image;
mod open;
mod serve;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;

/// A self-hosted cloud for Linux containers.
#[derive(Parser)]
#[command(name = "hzel", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate, reconcile and serve (the default)
    Serve,
    /// Accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Personal access tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Images that containers start from
    #[command(subcommand)]
    Image(ImageCommand),
    /// The audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Say what this machine can and cannot do, and how to mend it
    Doctor,
    /// Bring the database's tables to this version
    Migrate,
    /// Print the OpenAPI document
    Openapi,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Make an account; the password is read from standard input
    Create(NewUserArgs),
    /// List the accounts
    List,
    /// Keep someone out, and end their sessions
    Disable { email: String },
    /// Let someone in again
    Enable { email: String },
    /// Make someone an admin or a user
    SetRole { email: String, role: String },
}

#[derive(Args)]
struct NewUserArgs {
    #[arg(long)]
    email: String,
    #[arg(long)]
    display_name: Option<String>,
    /// admin or user
    #[arg(long, default_value = "user")]
    role: String,
    /// Read the password from the first line of standard input
    #[arg(long, required = true)]
    password_stdin: bool,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token and print it, alone, on standard output
    Create(NewTokenArgs),
}

#[derive(Args)]
struct NewTokenArgs {
    /// Whose token, by e-mail address
    #[arg(long)]
    user: String,
    #[arg(long)]
    name: String,
    /// Comma-separated; the whole account when none
    #[arg(long, value_delimiter = ',')]
    scopes: Option<Vec<String>>,
    /// Such as 12h or 30d; never when none
    #[arg(long)]
    expires_in: Option<String>,
}

#[derive(Subcommand)]
enum ImageCommand {
    /// List the images
    List,
    /// Make an image from a registry reference, a tar file or `default`, and wait for it
    Add { name: String, source: String },
    /// Remove an unused image
    Remove { name: String },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Prove that no entry was changed or removed
    Verify,
}

/// What a command can fail with: a sentence for the operator.
type Outcome = Result<(), String>;

/// Runs what the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Serve);
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("hzel: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome {
    let config = Config::from_env()?;
    open::log(&config, matches!(command, Command::Serve));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)))
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let done = runtime.block_on(async move {
        match command {
            Command::Serve => serve::run(config).await,
            Command::User(command) => admin::user(config, command).await,
            Command::Token(TokenCommand::Create(args)) => admin::create_token(config, args).await,
            Command::Image(command) => image::run(config, command).await,
            Command::Audit(AuditCommand::Verify) => admin::verify_audit(config).await,
            Command::Doctor => doctor::run(config).await,
            Command::Migrate => admin::migrate(config),
            Command::Openapi => admin::openapi(&config),
        }
    });
    // What still blocks a thread (a long read in a driver) must not hold the end up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}
