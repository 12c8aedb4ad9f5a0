//! Output of commands, with central error handling. When the reader closes the pipe (`regreen … | head -1`), the rest
//! is discarded and the command ends without an error.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

/// First write error of standard output; process-wide like standard output.
static CLOSED: OnceLock<io::Error> = OnceLock::new();

/// Prints to standard output.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::output::write(format_args!($($text)*)) };
}

/// Prints a line to standard output.
macro_rules! outln {
    () => { out!("\n") };
    ($($text:tt)*) => { out!("{}\n", format_args!($($text)*)) };
}

/// Prints a line to standard error.
macro_rules! errln {
    ($($text:tt)*) => { $crate::cli::output::write_stderr(format_args!($($text)*)) };
}

/// Writes to standard output, unless an earlier write failed.
pub(super) fn write(text: fmt::Arguments<'_>) {
    if CLOSED.get().is_none()
        && let Err(error) = io::stdout().lock().write_fmt(text)
    {
        let _ = CLOSED.set(error);
    }
}

/// Writes a line to standard error. A failure cannot be reported.
pub fn write_stderr(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns whether output is discarded, so that a long-running command should end.
pub(super) fn is_closed() -> bool {
    CLOSED.get().is_some()
}

/// Returns the exit code of the process. A write error such as a full disk is a failure; a closed pipe is not.
#[must_use]
pub fn end(code: ExitCode) -> ExitCode {
    let flushed = io::stdout().lock().flush();
    match CLOSED.get().or(flushed.as_ref().err()) {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            errln!("regreen: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}
