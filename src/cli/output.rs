//! What commands print, and the one place that knows what to do when it cannot be printed. Whoever reads may leave
//! (`regreen … | head -1`): the rest goes nowhere then, and the command ends without a complaint.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why standard output takes nothing more. It belongs to the process, as standard output does.
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

/// Writes to standard output, unless nobody reads it any more.
pub(super) fn write(text: fmt::Arguments<'_>) {
    if CLOSED.get().is_none()
        && let Err(error) = io::stdout().lock().write_fmt(text)
    {
        let _ = CLOSED.set(error);
    }
}

/// Writes a line to standard error. There is nobody to tell when that fails.
pub fn write_stderr(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether what is printed goes nowhere: a command that would go on for long ends here.
pub(super) fn is_closed() -> bool {
    CLOSED.get().is_some()
}

/// How the process ends. What could not be written, on a full disk for one, is a failure; a reader who left is none.
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
