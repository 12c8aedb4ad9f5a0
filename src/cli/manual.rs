//! `completions` and `man`: shell completions and manual pages, generated from the same definition as `--help`.

use super::Cli;
use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "To read one: regreen man report | man -l -")]
pub(super) struct Arguments {
    /// The command, such as `report` or `token create`; the overview when left out.
    #[arg(conflicts_with = "out")]
    command: Vec<String>,
    /// Folder for the pages of all commands, such as /usr/local/share/man/man1. It is made when it is not there.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "regreen", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Prints a page, or writes all pages.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &arguments.out {
        let cannot = || format!("cannot write manual pages to {}", folder.display());
        std::fs::create_dir_all(folder).with_context(cannot)?;
        clap_mangen::generate_to(Cli::command(), folder).with_context(cannot)?;
        outln!("The manual pages are in {}.", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    // Built from the root, so that a command knows its full name.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut command = &root;
    for name in &arguments.command {
        command = command.find_subcommand(name).with_context(|| unknown(command, name))?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    out!("{}", String::from_utf8_lossy(&page));
    Ok(ExitCode::SUCCESS)
}

fn unknown(command: &Command, name: &str) -> String {
    let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let of = command.get_bin_name().unwrap_or("regreen");
    if known.is_empty() {
        return format!("`{of}` has no command `{name}` and no other");
    }
    format!("`{of}` has no command `{name}`; it has {}", known.join(", "))
}
