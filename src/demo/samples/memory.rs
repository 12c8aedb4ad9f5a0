//! An import that exceeds its memory limit, with a log of twenty thousand lines that does not contain the kernel's
//! message.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const THREADS: &[&str] = &[
    "chunk-reader-1",
    "chunk-reader-2",
    "row-mapper-1",
    "row-mapper-2",
    "row-mapper-3",
    "bulk-writer-1",
    "scheduler-1",
];

impl Log {
    fn java(&mut self, level: &str, thread: &str, logger: &str, text: &str) -> &mut Self {
        let time = self.time_millis();
        self.line(format!("2026-11-20 {time} {level:<5} [{thread}] {logger} - {text}"))
    }

    /// Writes one normal line of the import.
    fn import_line(&mut self, chunk: u32) {
        let (thread, id, millis) = (self.one_of(THREADS), self.number(100_000..999_999), self.number(2..240));
        let logger = "c.e.importer.ChunkPipeline";
        match self.number(0..60) {
            0 => self.java("WARN", thread, "c.e.importer.RetryPolicy", &format!("bulk insert of row group {id} failed (attempt 1 of 5), retrying in 200 ms: java.net.SocketException: Connection reset")),
            1 => self.java("INFO", thread, "c.e.importer.RetryPolicy", &format!("row group {id} written on attempt 2")),
            2 => self.java("WARN", thread, "c.e.importer.RowMapper", &format!("row {id}: unknown country code 'XK', using default")),
            3 => self.java("INFO", "metrics-1", "c.e.importer.Report", &format!("chunk {chunk}: 0 errors, 0 rejected rows")),
            4..8 => self.java("DEBUG", thread, "o.h.SQL", &format!("insert into movement (id, account, amount) values ({id}, ?, ?) -- {millis} ms")),
            _ => self.java("DEBUG", thread, logger, &format!("chunk {chunk}: mapped row group {id} in {millis} ms")),
        };
        self.pass(70);
    }

    /// Writes a garbage collection; the retained heap grows.
    fn collection(&mut self, number: u32) {
        let seconds = f64::from(number) * 1.72 + 0.413;
        let kept = 310 + number * 12;
        let millis = self.number(400..4_900);
        self.line(format!(
            "[{seconds:.3}s][info][gc] GC({number}) Pause Young (Normal) (G1 Evacuation Pause) {}M->{kept}M(6144M) {}.{:03}ms",
            kept + 512, millis / 100, millis % 1000
        ));
    }
}

/// The heap may grow to 6 GiB, but the container is limited to 4 GiB.
pub(super) fn out_of_memory() -> Sample {
    let mut log = Log::new(7);
    log.line("+ exec java -Xmx6g -Xlog:gc -jar /app/importer.jar --input /workspace/data/movements.parquet --chunks 980");
    log.java(
        "INFO",
        "main",
        "c.e.importer.Main",
        "importer 5.3.1 on Java 21.0.5, 4 processors, maximum heap 6144 MiB",
    );
    log.java("INFO", "main", "c.z.h.HikariDataSource", "HikariPool-1 - Start completed.");
    let mut collections = 0;
    for chunk in 1..=412 {
        log.java("INFO", "scheduler-1", "c.e.importer.Scheduler", &format!("loading chunk {chunk} of 980"));
        for _ in 0..45 {
            log.import_line(chunk);
        }
        if chunk % 3 != 0 {
            log.collection(collections);
            collections += 1;
        }
    }
    log.java("INFO", "scheduler-1", "c.e.importer.Scheduler", "loading chunk 413 of 980");
    log.java(
        "DEBUG",
        "chunk-reader-2",
        "c.e.importer.ChunkPipeline",
        "chunk 413: reading 1.9 GiB dictionary page",
    );
    log.line("Killed");
    Sample {
        slug: "oom",
        title: "A step runs out of memory",
        pod: "importer-nightly-t5j9k-import-pod",
        container: "step-import",
        image: "registry.example.com/data/importer:5.3.1",
        memory: "4Gi",
        pipeline: "importer-nightly",
        task: "import",
        reason: "OOMKilled",
        exit_code: 137,
        cause_words: &["OOMKilled"],
        class: FailureClass::Infrastructure,
        ..Sample::failed(log)
    }
}
