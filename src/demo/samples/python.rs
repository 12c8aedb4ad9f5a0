//! Python: an imported module that is missing from the requirements.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const WHEELS: &str = "numpy 2.1.3 16.3 MB|pandas 2.2.3 12.7 MB|scipy 1.14.1 41.2 MB|scikit-learn 1.5.2 12.9 MB|pyarrow 18.1.0 40.1 MB|\
joblib 1.4.2 301 kB|threadpoolctl 3.5.0 18 kB|python-dateutil 2.9.0 229 kB|pytz 2024.2 508 kB|tzdata 2024.2 346 kB|six 1.16.0 11 kB|\
requests 2.32.3 64 kB|urllib3 2.2.3 126 kB|certifi 2024.8.30 167 kB|idna 3.10 70 kB|charset-normalizer 3.4.0 144 kB|pydantic 2.10.2 456 kB|\
pydantic-core 2.27.1 2.1 MB|annotated-types 0.7.0 13 kB|typing-extensions 4.12.2 37 kB|fastapi 0.115.5 94 kB|starlette 0.41.3 73 kB|\
anyio 4.6.2 90 kB|sniffio 1.3.1 10 kB|h11 0.14.0 58 kB|uvicorn 0.32.1 63 kB|click 8.1.7 97 kB|httpx 0.27.2 76 kB|httpcore 1.0.7 78 kB|\
sqlalchemy 2.0.36 3.2 MB|greenlet 3.1.1 602 kB|psycopg 3.2.3 197 kB|alembic 1.14.0 233 kB|mako 1.3.6 78 kB|markupsafe 3.0.2 23 kB|\
holidays 0.61 1.1 MB|matplotlib 3.9.3 8.3 MB|contourpy 1.3.1 326 kB|cycler 0.12.1 8 kB|fonttools 4.55.0 4.9 MB|kiwisolver 1.4.7 1.4 MB|\
packaging 24.2 65 kB|pillow 11.0.0 4.4 MB|pyparsing 3.2.0 106 kB|pytest 8.3.3 342 kB|pluggy 1.5.0 20 kB|iniconfig 2.0.0 6 kB|\
pytest-cov 6.0.0 22 kB|coverage 7.6.8 236 kB|pytest-xdist 3.6.1 46 kB|execnet 2.1.1 41 kB|errorhandler 2.0.1 7 kB|ruff 0.8.1 11.0 MB";
const TESTS: &[&str] = &[
    "test_baseline",
    "test_calendar",
    "test_cli",
    "test_errors",
    "test_export",
    "test_features",
    "test_holidays",
    "test_ingest",
    "test_metrics",
    "test_models",
    "test_outliers",
    "test_pipeline",
    "test_registry",
    "test_resample",
    "test_retry",
    "test_schema",
];
const CASES: &[&str] = &[
    "empty_input",
    "single_row",
    "missing_values",
    "daylight_saving",
    "leap_day",
    "negative_amounts",
    "unicode_names",
    "large_frame",
    "retries_on_failure",
    "raises_error_on_bad_schema",
    "is_idempotent",
    "keeps_order",
    "rounds_half_even",
    "matches_golden_file",
    "respects_limit",
    "logs_warning_once",
];

/// pytest output after all tests have run.
const ERRORS: &str = r#"

==================================== ERRORS ====================================
___________________ ERROR collecting tests/test_seasonal.py ____________________
ImportError while importing test module '/workspace/source/tests/test_seasonal.py'.
Hint: make sure your test modules/packages have valid Python names.
Traceback:
/usr/local/lib/python3.12/importlib/__init__.py:90: in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
tests/test_seasonal.py:4: in <module>
    from forecast.seasonal import decompose
forecast/seasonal.py:3: in <module>
    import statsmodels.api as sm
E   ModuleNotFoundError: No module named 'statsmodels'
=============================== warnings summary ===============================
tests/test_export.py::test_large_frame
  /workspace/source/forecast/export.py:51: DeprecationWarning: datetime.datetime.utcnow() is deprecated and scheduled for removal in a future version.
    stamp = datetime.utcnow()

-- Docs: https://docs.pytest.org/en/stable/how-to/capture-warnings.html

---------- coverage: platform linux, python 3.12.7-final-0 -----------
"#;

impl Log {
    fn pip_install(&mut self) -> &mut Self {
        for wheel in WHEELS.split('|') {
            let mut parts = wheel.splitn(3, ' ');
            let (name, version, size) =
                (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            self.pass(300).line(format!("Collecting {name}=={version} (from -r requirements.txt)"));
            self.line(format!("  Downloading https://pypi.example.com/packages/{}-{version}-cp312-cp312-manylinux_2_17_x86_64.whl ({size})", name.replace('-', "_")));
            let speed = self.number(3..90);
            let bar = |cells: usize| {
                format!(
                    "     \u{1b}[38;5;237m{}{}\u{1b}[0m {size} {speed}.1 MB/s",
                    "━".repeat(cells),
                    " ".repeat(40 - cells)
                )
            };
            self.progress((0..=40).step_by(10).map(bar));
        }
        self.line("Installing collected packages: pytz, tzdata, six, numpy, threadpoolctl, joblib, scipy, scikit-learn, pandas, …");
        self.line("WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by 'ReadTimeoutError': /packages/ruff-0.8.1.whl");
        self.line("Successfully installed 53 packages")
    }

    fn ruff_and_types(&mut self) -> &mut Self {
        self.line("+ ruff check .").line("All checks passed!").line("+ mypy forecast");
        self.line("Success: no issues found in 74 source files")
    }
}

/// One test module cannot be collected; all other tests pass.
pub(super) fn missing_module() -> Sample {
    let mut log = Log::new(4);
    log.checkout("data/forecast").line("+ pip install --no-cache-dir -r requirements.txt").pip_install();
    log.ruff_and_types().line("+ pytest -v --tb=short --continue-on-collection-errors");
    let total = TESTS.len() * CASES.len();
    log.line("============================= test session starts ==============================");
    log.line("platform linux -- Python 3.12.7, pytest-8.3.3, pluggy-1.5.0 -- /usr/local/bin/python");
    log.line("cachedir: .pytest_cache").line("rootdir: /workspace/source").line("configfile: pyproject.toml");
    log.line("plugins: cov-6.0.0, xdist-3.6.1, anyio-4.6.2")
        .line(format!("collecting ... collected {total} items / 1 error"))
        .line("");
    for (position, (test, case)) in
        TESTS.iter().flat_map(|test| CASES.iter().map(move |case| (test, case))).enumerate()
    {
        let percent = (position + 1) * 100 / total;
        let name = format!("tests/{test}.py::test_{case}");
        log.pass(90).line(format!(
            "{name} \u{1b}[32mPASSED\u{1b}[0m {:>width$}",
            format!("[{percent:>3}%]"),
            width = 72 - name.len().min(64)
        ));
    }
    log.lines(ERRORS);
    for test in TESTS {
        let (statements, missed) = (log.number(40..400), log.number(0..40));
        log.line(format!(
            "forecast/{:<24} {statements:>6} {missed:>6} {:>5}%",
            format!("{}.py", &test[5..]),
            100 - missed * 100 / statements
        ));
    }
    log.line("=========================== short test summary info ============================");
    log.line("ERROR tests/test_seasonal.py");
    log.line(format!("=================== {total} passed, 1 warning, 1 error in 19.41s ==================="));
    log.line("+ cp -r htmlcov /workspace/reports/").line("+ exit 1");
    Sample {
        slug: "python-import",
        title: "A Python module is missing",
        pod: "forecast-ci-b6n2v-pytest-pod",
        container: "step-pytest",
        image: "registry.example.com/ci/python:3.12-bookworm",
        pipeline: "forecast-ci",
        task: "pytest",
        cause_words: &["statsmodels"],
        class: FailureClass::Dependency,
        ..Sample::failed(log)
    }
}
