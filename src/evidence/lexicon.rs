//! General vocabulary of failures, independent of projects, languages and tools.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// Categories of words, one bit each.
pub(super) mod kind {
    pub(in crate::evidence) const ERROR: u32 = 1;
    pub(in crate::evidence) const FAIL: u32 = 1 << 1;
    pub(in crate::evidence) const FATAL: u32 = 1 << 2;
    pub(in crate::evidence) const MISSING: u32 = 1 << 3;
    pub(in crate::evidence) const REFUSED: u32 = 1 << 4;
    pub(in crate::evidence) const DEATH: u32 = 1 << 5;
    pub(in crate::evidence) const ASSERT: u32 = 1 << 6;
    pub(in crate::evidence) const EXCEPTION: u32 = 1 << 7;
    pub(in crate::evidence) const WARNING: u32 = 1 << 8;
    pub(in crate::evidence) const GOOD: u32 = 1 << 9;
    pub(in crate::evidence) const PROGRESS: u32 = 1 << 10;
    pub(in crate::evidence) const EXIT: u32 = 1 << 11;
    pub(in crate::evidence) const TEST: u32 = 1 << 12;
    pub(in crate::evidence) const HINT: u32 = 1 << 13;
    pub(in crate::evidence) const NEGATION: u32 = 1 << 14;
    pub(in crate::evidence) const LINE: u32 = 1 << 15;
    pub(in crate::evidence) const EXPECTED: u32 = 1 << 16;
    pub(in crate::evidence) const CAUSE: u32 = 1 << 17;
    /// Failure only after a negation, such as `not found` or `no such`.
    pub(in crate::evidence) const LACKED: u32 = 1 << 18;
    pub(in crate::evidence) const SUMMARY: u32 = 1 << 19;
    pub(in crate::evidence) const AUXILIARY: u32 = 1 << 20;
    pub(in crate::evidence) const TRACE: u32 = 1 << 21;
    pub(in crate::evidence) const MODAL: u32 = 1 << 22;
    /// Number of categories.
    pub(in crate::evidence) const COUNT: u32 = 23;
}
use kind::*;

#[rustfmt::skip]
const WORDS: &[(u32, &str)] = &[
    (ERROR, "error errors err erred errored errno"),
    (FAIL, "fail failed fails failing failure failures unsuccessful unsuccessfully"),
    (FATAL, "fatal panic panicked panicking critical severe abort aborted aborting aborts crash crashed emerg alert bug"),
    (MISSING, "missing undefined undeclared unresolved unresolvable unknown unrecognized unrecognised cannot unable nonexistent \
               unsatisfied unsatisfiable unmet absent unavailable unreachable uninitialized unset undocumented unimplemented"),
    (REFUSED, "denied unauthorized forbidden refused rejected invalid expired illegal unexpected mismatch mismatched incompatible \
               unsupported conflict conflicts conflicting bad wrong malformed corrupt corrupted broken unterminated violation \
               violations violates violated overflow underflow deadlock disallowed prohibited incorrect inconsistent duplicate \
               ambiguous vulnerable stale dead offense offenses issue issues problem problems"),
    (DEATH, "killed oom oomkilled timeout timeouts segfault segmentation sigsegv sigkill sigabrt sigterm sigill sigbus terminated \
             exceeded exceeds hung stalled dumped oops evicted"),
    (ASSERT, "assert asserted asserting assertion assertions"),
    (EXPECTED, "expected actual received got"),
    (EXCEPTION, "exception exceptions traceback backtrace stacktrace throw throws thrown threw raise raised raises unhandled uncaught"),
    (CAUSE, "caused because due reason cause"),
    (TRACE, "stack trace frame called callers"),
    (WARNING, "warning warn warnings deprecated deprecation notice"),
    (GOOD, "ok okay passed pass passes passing success succeeded successful successfully done completed complete finished yes skipped \
            skip ignored"),
    (PROGRESS, "downloading downloaded download fetching fetched fetch installing installed unpacking unpacked extracting compiling \
                compiled building built collecting resolving cloning pulling pulled preparing selecting receiving copying linking \
                processing creating created adding removing checking loading loaded running starting started using configuring \
                configured generating entering leaving cached saving uploading setting executing testing updating reading writing \
                found scanning get hit ign inflating bundling"),
    (EXIT, "exit exited exiting returned status code"),
    (TEST, "test tests spec specs suite testcase scenario scenarios example examples"),
    (SUMMARY, "total summary run ran"),
    (HINT, "note hint help tip see try please consider maybe perhaps"),
    (NEGATION, "not no without never"),
    (MODAL, "must should required requires could does did was were"),
    (LACKED, "found such exist exists resolve resolved available recognized recognised installed open opened read load loaded connect \
              connected space module match matched defined declared parse parsed permitted allowed"),
    (LINE, "line column col"),
    (AUXILIARY, "can could does do did is are was has been be"),
];

/// Hasher that returns the key, because keys are already hashes.
#[derive(Default)]
struct Keep(u64);

impl Hasher for Keep {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

static TABLE: LazyLock<HashMap<u64, u32, BuildHasherDefault<Keep>>> = LazyLock::new(|| {
    let mut table: HashMap<u64, u32, BuildHasherDefault<Keep>> = HashMap::default();
    for (kind, words) in WORDS {
        for word in words.split_whitespace() {
            *table.entry(spread(hash(word.as_bytes()))).or_default() |= kind;
        }
    }
    table
});

/// Initial value of FNV-1a.
pub(super) const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of FNV-1a.
pub(super) const fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3)
}

/// Hashes a word, ignoring ASCII case.
pub(super) fn hash(word: &[u8]) -> u64 {
    word.iter().fold(SEED, |hash, byte| mix(hash, u64::from(byte.to_ascii_lowercase())))
}

/// Mixes high bits into the low bits, because the table selects buckets from both.
const fn spread(hash: u64) -> u64 {
    hash ^ (hash >> 29)
}

/// Returns the categories of a word by its hash.
pub(super) fn kinds(hash: u64) -> u32 {
    TABLE.get(&spread(hash)).copied().unwrap_or(0)
}
