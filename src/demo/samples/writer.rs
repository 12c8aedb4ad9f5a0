//! Log writer: lines, blocks, a clock and the common first lines of a step.

use fastrand::Rng;

/// Start time of every step, 09:12:05, in milliseconds of the day.
const BEGIN: u64 = 33_125_000;

/// A log being written.
pub(super) struct Log {
    text: String,
    rng: Rng,
    millis: u64,
}

impl Log {
    /// Creates an empty log with a seeded random generator.
    pub(super) fn new(seed: u64) -> Self {
        Self { text: String::new(), rng: Rng::with_seed(seed), millis: BEGIN }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: impl AsRef<str>) -> &mut Self {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
        self
    }

    /// Writes the lines of a block, without leading and trailing line breaks.
    pub(super) fn lines(&mut self, block: &str) -> &mut Self {
        for line in block.trim_matches('\n').lines() {
            self.line(line);
        }
        self
    }

    /// Returns a random number in the range.
    pub(super) fn number(&mut self, range: std::ops::Range<u32>) -> u32 {
        self.rng.u32(range)
    }

    /// Returns a random element.
    pub(super) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())]
    }

    /// Returns random hexadecimal digits.
    pub(super) fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit(self.rng.u32(0..16), 16).unwrap_or('0')).collect()
    }

    /// Advances the clock by up to `at_most` milliseconds.
    pub(super) fn pass(&mut self, at_most: u64) -> &mut Self {
        self.millis += self.rng.u64(0..=at_most);
        self
    }

    /// Returns the time of day, such as `09:12:05`.
    pub(super) fn time(&self) -> String {
        let seconds = self.millis / 1000;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// Returns the time of day with milliseconds, such as `09:12:05.000`.
    pub(super) fn time_millis(&self) -> String {
        format!("{}.{:03}", self.time(), self.millis % 1000)
    }

    /// Writes the states of a terminal progress bar in one line, separated by carriage returns.
    pub(super) fn progress(&mut self, states: impl IntoIterator<Item = String>) -> &mut Self {
        let states: Vec<String> = states.into_iter().collect();
        self.line(states.join("\r"))
    }

    /// Writes the output of a git checkout.
    pub(super) fn checkout(&mut self, repository: &str) -> &mut Self {
        let (sha, objects) = (self.hex(40), self.number(900..4_000));
        self.line(format!("+ git clone --depth 1 --progress https://git.example.com/{repository}.git ."));
        self.line("Cloning into '.'...");
        self.line(format!("remote: Enumerating objects: {objects}, done."));
        for (what, total) in [("Receiving objects", objects), ("Resolving deltas", objects / 3)] {
            let state = |percent: u32| format!("{what}: {percent:>3}% ({}/{total})", total * percent / 100);
            let end = format!("{what}: 100% ({total}/{total}), done.");
            self.progress((0..100).step_by(9).map(state).chain([end]));
        }
        self.pass(4_000);
        self.line(format!("+ git rev-parse HEAD\n{sha}"))
    }

    /// Returns the log and its end time, RFC 3339.
    pub(super) fn done(mut self) -> (String, String) {
        self.pass(2_000);
        let ended = format!("2026-11-20T{}Z", self.time());
        (self.text, ended)
    }
}
