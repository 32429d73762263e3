//! The command line: the commands, their arguments and their exit codes.

mod cache;
mod compact;
mod hook;
mod init;
mod install;
mod manifest;
mod named;
mod print;
mod settings;
mod stats;
mod status;
mod transfer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::local::log;

/// The end of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The command found no problem.
    Fine,
    /// A check found a problem.
    Findings,
}

const EXIT_FINDINGS: u8 = 1;
const EXIT_FAILED: u8 = 2;

#[derive(Parser)]
#[command(
    name = "git-lfs-cdc",
    bin_name = "git lfs-cdc",
    version,
    about = "Stores Git LFS objects deduplicated and compressed in storage that you own",
    after_help = "Begin with:\n  git lfs-cdc install                   once on each machine\n  \
                  git lfs-cdc init s3://bucket/prefix   once in each repository, then commit .lfsconfig\n\n\
                  From then on git push, git pull and git clone move LFS files through the store.\n\n\
                  Exit codes: 0 all is well, 1 a check found a problem, 2 the command failed.\n\n\
                  `git lfs-cdc COMMAND --help` explains each command."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

// the documentation of each command's type is its help
#[derive(Subcommand)]
enum Command {
    Install(install::Install),
    Uninstall(install::Uninstall),
    Init(init::Init),
    Transfer(transfer::Transfer),
    Status(status::Status),
    Manifest(manifest::Manifest),
    Stats(stats::Stats),
    Compact(compact::Compact),
    Cache(cache::Cache),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(answer) => {
            let is_wrong = print::arguments(&answer);
            return ExitCode::from(if is_wrong { EXIT_FAILED } else { 0 });
        }
    };
    if !matches!(command, Command::Transfer(_)) {
        log::to_terminal(print::warning);
    }
    let outcome = match command {
        Command::Install(command) => command.run(),
        Command::Uninstall(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Transfer(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Manifest(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::Compact(command) => command.run(),
        Command::Cache(command) => command.run(),
    };
    exit_code(outcome)
}

fn exit_code(outcome: Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(EXIT_FINDINGS),
        Err(error) => {
            print::error(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}
