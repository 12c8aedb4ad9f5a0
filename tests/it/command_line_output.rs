//! What the binary prints: to readers who leave, to a full disk, to shells and to `man`.

use super::command_line::{regreen, text};
use crate::support::{Setup, fresh_database};
use regreen::demo::samples::sample;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn command(arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// A pipe that nobody reads.
fn left() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

/// Runs it to readers who are there, who left the output, and who left both; each ends with the same code.
fn survives(arguments: &[&str], env: &[(&str, &str)], code: i32) -> Output {
    let read = regreen(arguments, env);
    assert_eq!(read.status.code(), Some(code), "{arguments:?}: {}", text(&read));
    assert!(!read.stdout.is_empty(), "{arguments:?} prints nothing: {}", text(&read));
    let unread = command(arguments, env).stdout(left()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&unread.stderr);
    assert_eq!(unread.status.code(), Some(code), "{arguments:?}: {said}");
    for complaint in ["panicked", "roken pipe", "cannot write"] {
        assert!(!said.contains(complaint), "{arguments:?}: {said}");
    }
    let alone = command(arguments, env).stdout(left()).stderr(left()).status().unwrap();
    assert_eq!(alone.code(), Some(code), "{arguments:?} to nobody at all");
    read
}

#[test]
fn a_reader_who_leaves_is_no_error_of_what_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    std::fs::write(&log, sample("go-vet").unwrap().log).unwrap();
    let log = log.to_str().unwrap();
    let table: &[(&[&str], i32)] = &[
        (&["--help"], 0),
        (&["report", "--help"], 0),
        (&["--version"], 0),
        (&["openapi"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["check-config"], 0),
        (&["check-config", "--table"], 0),
        (&["demo", "--list"], 0),
        (&["excerpt", log], 0),
        (&["excerpt", "--format", "json", log], 0),
        (&["policy", "test", "--server", "s", "--tool", "t"], 3),
        (&["policy", "test", "--server", "s", "--tool", "t", "--json"], 3),
        (&["prune"], 0),
    ];
    for (arguments, code) in table {
        survives(arguments, &[], *code);
    }
    // One who reads the first line and goes, in the middle of a long text.
    let mut child = command(&["openapi"], &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((first.trim(), output.status.code(), text(&output).as_str()), ("{", Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_leaves_is_no_error_of_what_works_on_the_database() {
    let app = Setup::whole().await.start().await;
    assert_eq!(app.report("go-vet").await.status, 200);
    let incident = app.get("/api/incidents").await.body["incidents"][0]["id"].as_str().unwrap().to_owned();
    let report = app.get("/api/reports").await.body["reports"][0]["id"].as_str().unwrap().to_owned();
    let (database, base) = (app.database.clone(), app.base.clone());
    let fresh = fresh_database().await;
    tokio::task::spawn_blocking(move || {
        let env = [("DATABASE_URL", database.as_str())];
        let new = [("DATABASE_URL", fresh.as_str())];
        survives(&["migrate"], &env, 0);
        survives(&["ingest"], &env, 0);
        survives(&["prune", "--dry-run", "--reports", "30d"], &env, 0);
        survives(&["audit", "verify"], &env, 0);
        survives(&["audit", "verify", "--json"], &env, 0);
        survives(&["runbook", "draft", &incident], &env, 0);
        survives(&["replay", &report], &env, 0);
        survives(&["replay", "--all", "--json"], &env, 0);
        survives(&["health", "--url", &base], &env, 0);
        for json in [&["doctor"][..], &["doctor", "--json"]] {
            // What it finds is not the matter here.
            let code = regreen(json, &env).status.code().unwrap();
            survives(json, &env, code);
        }
        let again = ["report", "--namespace", "ci", "--pod", "p", "--log", "Cargo.toml", "--server", &base];
        survives(&[&again[..], &["--idempotency-key", "one"]].concat(), &[], 0);
        survives(&[&again[..], &["--json", "--idempotency-key", "one"]].concat(), &[], 0);
        for name in ["a", "b"] {
            let made = ["token", "create", "--role", "reporter", "--name", name];
            let made = command(&made, &new).stdout(left()).stderr(left()).status().unwrap();
            assert_eq!(made.code(), Some(0));
        }
        assert_eq!(text(&survives(&["token", "list"], &new, 0)).lines().count(), 2);
    })
    .await
    .unwrap();
    app.stop().await;
}

#[test]
fn the_demonstration_ends_when_nobody_reads_it_any_more() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let env = [("REGREEN_DATA_DIR", folder.path().to_str().unwrap()), ("REGREEN_PORT", "0")];
    let mut child = command(&["demo"], &env).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("Stand-in cluster "), "{first}");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.contains("panicked")), (Some(0), false), "{said}");
}

#[test]
fn what_cannot_be_written_is_a_failure() {
    let full = command(&["openapi"], &[])
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = text(&full);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.starts_with("regreen: cannot write to standard output: No space left"), "{said}");
}

/// What bash offers for the words of a line.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let line = "source \"$1\"; shift; COMP_WORDS=(\"${@:3}\"); COMP_CWORD=$(($# - 3)); \
                _regreen regreen \"$1\" \"$2\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-euc", line, "bash"])
        .arg(script)
        .args([last, before])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_commands_options_and_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("regreen.bash");
    std::fs::write(&script, regreen(&["completions", "bash"], &[]).stdout).unwrap();
    assert_eq!(offered(&script, &["regreen", "rep"]), ["report", "replay"].map(str::to_owned));
    assert_eq!(offered(&script, &["regreen", "report", "--comm"]), ["--commit"]);
    assert_eq!(
        offered(&script, &["regreen", "token", "create", "--role", ""]),
        ["reporter", "viewer", "operator", "admin"]
    );
    for (shell, sign) in [
        ("zsh", "#compdef regreen"),
        ("fish", "complete -c regreen"),
        ("elvish", "edit:completion:arg-completer[regreen]"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName 'regreen'"),
    ] {
        let said = text(&regreen(&["completions", shell], &[]));
        assert!(said.contains(sign) && said.contains("check-config"), "{shell}: {said}");
    }
    let unknown = regreen(&["completions", "tcsh"], &[]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown).contains("bash, elvish, fish, powershell, zsh"), "{}", text(&unknown));
}

#[test]
fn manual_pages_are_printed_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let written = regreen(&["man", "--out", pages.to_str().unwrap()], &[]);
    assert!(written.status.success(), "{}", text(&written));
    for name in ["regreen.1", "regreen-report.1", "regreen-token-create.1"] {
        let page = std::fs::read_to_string(pages.join(name)).unwrap();
        assert!(page.contains(".TH regreen"), "{name}: {page}");
    }
    let report = regreen(&["man", "report"], &[]);
    assert_eq!(report.stdout, std::fs::read(pages.join("regreen-report.1")).unwrap());
    let create = text(&regreen(&["man", "token", "create"], &[]));
    assert!(create.contains("regreen token create") && create.contains("reporter"), "{create}");
    let unknown = regreen(&["man", "token", "destroy"], &[]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = "regreen: `regreen token` has no command `destroy`; it has create, list, revoke\n";
    assert_eq!(text(&unknown), said);
    if Path::new("/usr/bin/groff").exists() {
        let page = pages.join("regreen-report.1");
        let set =
            Command::new("groff").args(["-man", "-Tascii", "-ww", "-P-cbou"]).arg(page).output().unwrap();
        assert!(set.status.success() && set.stderr.is_empty(), "{}", text(&set));
        assert!(text(&set).contains("SYNOPSIS"), "{}", text(&set));
    }
}
