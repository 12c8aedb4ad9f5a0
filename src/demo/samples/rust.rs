//! Rust: a type mismatch in coloured cargo output.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

/// Crates in build order, with versions.
const CRATES: &str = "proc-macro2 1.0.92|unicode-ident 1.0.14|libc 0.2.167|cfg-if 1.0.0|autocfg 1.4.0|once_cell 1.20.2|\
memchr 2.7.4|itoa 1.0.14|quote 1.0.37|syn 2.0.90|pin-project-lite 0.2.15|bytes 1.9.0|smallvec 1.13.2|futures-core 0.3.31|\
serde 1.0.215|scopeguard 1.2.0|lock_api 0.4.12|parking_lot_core 0.9.10|parking_lot 0.12.3|log 0.4.22|version_check 0.9.5|\
typenum 1.17.0|generic-array 0.14.7|equivalent 1.0.1|hashbrown 0.15.2|indexmap 2.7.0|shlex 1.3.0|cc 1.2.2|futures-sink 0.3.31|\
fnv 1.0.7|http 1.2.0|slab 0.4.9|futures-task 0.3.31|pin-utils 0.1.0|futures-util 0.3.31|tracing-core 0.1.33|\
signal-hook-registry 1.4.2|mio 1.0.3|socket2 0.5.8|crypto-common 0.1.6|block-buffer 0.10.4|digest 0.10.7|subtle 2.6.1|\
thiserror 2.0.4|percent-encoding 2.3.1|stable_deref_trait 1.2.0|ryu 1.0.18|serde_json 1.0.133|httparse 1.9.5|\
zeroize 1.8.1|rustls-pki-types 1.10.0|ring 0.17.8|untrusted 0.9.0|rustls 0.23.19|base64 0.22.1|anyhow 1.0.93|\
try-lock 0.2.5|want 0.3.1|http-body 1.0.1|atomic-waker 1.1.2|tower-service 0.3.3|tower-layer 0.3.3|sync_wrapper 1.0.2|\
mime 0.3.17|ppv-lite86 0.2.20|rand_core 0.6.4|rand_chacha 0.3.1|rand 0.8.5|aho-corasick 1.1.3|regex-syntax 0.8.5|\
regex-automata 0.4.9|regex 1.11.1|lazy_static 1.5.0|sharded-slab 0.1.7|nu-ansi-term 0.46.0|thread_local 1.1.8|\
error-code 3.3.1|quick-error 2.0.1|fallible-iterator 0.3.0|sha2 0.10.8|hmac 0.12.1|num-traits 0.2.19|chrono 0.4.38|\
either 1.13.0|itertools 0.13.0|prost 0.13.3|utf8parse 0.2.2|anstyle 1.0.10|clap_lex 0.7.3|strsim 0.11.1|heck 0.5.0";
/// Companion crates, for example of macros.
const FAMILIES: &[&str] = &[
    "serde_derive 1.0.215",
    "thiserror-impl 2.0.4",
    "tokio-macros 2.4.0",
    "tokio 1.42.0",
    "tracing-attributes 0.1.28",
    "tracing 0.1.41",
    "futures-macro 0.3.31",
    "async-trait 0.1.83",
    "tokio-util 0.7.12",
    "h2 0.4.7",
    "hyper 1.5.1",
    "hyper-util 0.1.10",
    "tower 0.5.1",
    "axum-core 0.4.5",
    "axum 0.7.9",
    "tokio-rustls 0.26.0",
    "hyper-rustls 0.27.3",
    "prost-derive 0.13.3",
    "clap_builder 4.5.21",
    "clap_derive 4.5.18",
    "clap 4.5.21",
    "tracing-subscriber 0.3.19",
    "opentelemetry 0.27.0",
    "opentelemetry_sdk 0.27.0",
    "tonic 0.12.3",
    "reqwest 0.12.9",
    "metrics 0.24.0",
];

/// Coloured warning of one crate and error of another.
const ERRORS: &str = "
\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m metrics-export v0.4.0 (/workspace/source/crates/metrics)
\u{1b}[1m\u{1b}[33mwarning\u{1b}[0m\u{1b}[1m: unused variable: `error_count`\u{1b}[0m
  \u{1b}[1m\u{1b}[94m--> \u{1b}[0mcrates/metrics/src/lib.rs:88:9
   \u{1b}[1m\u{1b}[94m|\u{1b}[0m
\u{1b}[1m\u{1b}[94m88\u{1b}[0m \u{1b}[1m\u{1b}[94m|\u{1b}[0m     let error_count = 0;
   \u{1b}[1m\u{1b}[94m|\u{1b}[0m         \u{1b}[1m\u{1b}[33m^^^^^^^^^^^\u{1b}[0m \u{1b}[1m\u{1b}[33mhelp: if this is intentional, prefix it with an underscore: `_error_count`\u{1b}[0m
   \u{1b}[1m\u{1b}[94m|\u{1b}[0m
   \u{1b}[1m\u{1b}[94m= \u{1b}[0m\u{1b}[1mnote\u{1b}[0m: `#[warn(unused_variables)]` on by default

\u{1b}[1m\u{1b}[33mwarning\u{1b}[0m\u{1b}[1m:\u{1b}[0m `metrics-export` (lib) generated 1 warning
\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m router v2.3.0 (/workspace/source/crates/router)
\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m limits v2.3.0 (/workspace/source/crates/limits)
\u{1b}[1m\u{1b}[91merror[E0308]\u{1b}[0m\u{1b}[1m: mismatched types\u{1b}[0m
   \u{1b}[1m\u{1b}[94m--> \u{1b}[0mcrates/router/src/table.rs:214:9
    \u{1b}[1m\u{1b}[94m|\u{1b}[0m
\u{1b}[1m\u{1b}[94m212\u{1b}[0m \u{1b}[1m\u{1b}[94m|\u{1b}[0m     pub fn weight(&self, route: &Route) -> u32 {
    \u{1b}[1m\u{1b}[94m|\u{1b}[0m                                            \u{1b}[1m\u{1b}[94m---\u{1b}[0m \u{1b}[1m\u{1b}[94mexpected `u32` because of return type\u{1b}[0m
\u{1b}[1m\u{1b}[94m213\u{1b}[0m \u{1b}[1m\u{1b}[94m|\u{1b}[0m         let base = self.base.get(&route.id);
\u{1b}[1m\u{1b}[94m214\u{1b}[0m \u{1b}[1m\u{1b}[94m|\u{1b}[0m         base.map(|entry| entry.weight)
    \u{1b}[1m\u{1b}[94m|\u{1b}[0m         \u{1b}[1m\u{1b}[91m^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\u{1b}[0m \u{1b}[1m\u{1b}[91mexpected `u32`, found `Option<u32>`\u{1b}[0m
    \u{1b}[1m\u{1b}[94m|\u{1b}[0m
    \u{1b}[1m\u{1b}[94m= \u{1b}[0m\u{1b}[1mnote\u{1b}[0m: expected type `\u{1b}[1m\u{1b}[35mu32\u{1b}[0m`
               found enum `\u{1b}[1m\u{1b}[35mOption<u32>\u{1b}[0m`

\u{1b}[1mFor more information about this error, try `rustc --explain E0308`.\u{1b}[0m
\u{1b}[1m\u{1b}[91merror\u{1b}[0m\u{1b}[1m:\u{1b}[0m could not compile `router` (lib) due to 1 previous error
\u{1b}[1m\u{1b}[33mwarning\u{1b}[0m\u{1b}[1m:\u{1b}[0m build failed, waiting for other jobs to finish...
";

impl Log {
    fn cargo(&mut self, verb: &str, rest: &str) -> &mut Self {
        self.pass(900).line(format!("\u{1b}[1m\u{1b}[32m{verb:>12}\u{1b}[0m {rest}"))
    }
}

/// `Option<u32>` instead of `u32`.
pub(super) fn compile_error() -> Sample {
    let mut log = Log::new(2);
    log.checkout("edge/gateway").line("+ cargo build --release --locked --color always");
    log.cargo("Updating", "`internal` index").cargo("Downloading", "crates ...");
    let all = || CRATES.split('|').chain(FAMILIES.iter().copied());
    for package in all() {
        log.cargo("Downloaded", &package.replacen(' ', " v", 1));
    }
    log.line("\u{1b}[1m\u{1b}[33mwarning\u{1b}[0m\u{1b}[1m:\u{1b}[0m spurious network error (3 tries remaining): [56] Failure when receiving data from the peer (Recv failure: Connection reset by peer)");
    for package in all() {
        log.cargo("Compiling", &package.replacen(' ', " v", 1));
    }
    log.lines(ERRORS);
    log.lines(
        "
+ cargo-cache --autoclean
Clearing cache...

Cargo cache '/workspace/cargo-home':

Total:                                  412.18 MB => 398.71 MB
  Registry:                               398.02 MB
  118 crate archives:                      22.41 MB
+ exit 101
",
    );
    Sample {
        slug: "compile-error",
        title: "Rust code does not compile",
        pod: "gateway-build-q9w4z-compile-pod",
        container: "step-cargo",
        image: "registry.example.com/ci/rust:1.83-bookworm",
        memory: "4Gi",
        pipeline: "gateway-build",
        task: "compile",
        exit_code: 101,
        cause_words: &["E0308", "mismatched types"],
        class: FailureClass::Code,
        ..Sample::failed(log)
    }
}
