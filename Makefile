# What there is to do, each a call of the tool that does it. "make run" and "make test" are all that a fresh machine needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO_FLAGS := --release --workspace --locked
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run build test unit check services fuzz torture simulate bench bench-check logins sinks schemas packaging clean help

help:            ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: build       ## Build what is needed, and start the broker with its built-in configuration
	@exec $(TARGET)/release/hookline serve

build:           ## Build the binary
	@./setup build
	@dashboard/build
	@echo "building; a cold build takes 10 to 15 minutes on two cores, most of it for RocksDB" >&2
	@./setup progress & progress=$$!; trap "kill $$progress 2>/dev/null" EXIT; cargo build $(CARGO_FLAGS)

test: build      ## Install and start the servers that the tests need, run everything, and take them down
	@clients=$$(./setup test | tail -n 1); eval "$$clients"; \
	trap "integration-tests/services down" EXIT; \
	integration-tests/services up; \
	eval "$$(integration-tests/services env)"; \
	cargo test $(CARGO_FLAGS)
	@fuzz/run 5
	@./setup packaging || echo "packaging/check goes on without its tools" >&2
	@packaging/check

unit: build      ## Run the tests that need no servers
	@cargo test $(CARGO_FLAGS) --exclude hookline-integration-tests

check: build     ## Check form and lints
	@cargo fmt --all --check
	@cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

services:        ## Start the servers that the tests need, and leave them running
	@./setup test > /dev/null
	@integration-tests/services up

fuzz:            ## Fuzz the codec, WebSocket and PROXY parsing for SECONDS (600) each
	@./setup build
	@fuzz/run $(or $(SECONDS),600)

torture: build   ## Kill the broker KILLS times (1000) and cut its power CUTS times (1000) under load, and count what is lost
	@./setup test > /dev/null
	@trap "integration-tests/services down" EXIT; \
	integration-tests/services up; \
	eval "$$(integration-tests/services env)"; \
	HOOKLINE_KILLS=$(or $(KILLS),1000) HOOKLINE_CUTS=$(or $(CUTS),1000) HOOKLINE_SEED=$$RANDOM \
	cargo test $(CARGO_FLAGS) --test kill9 --test powercut -- --nocapture

simulate: build  ## Run simulations of the broker with ever new seeds, until one fails or it is stopped
	@seed=$(or $(SEED),1000); while true; do \
	HOOKLINE_SEED=$$seed HOOKLINE_SEEDS=500 cargo test $(CARGO_FLAGS) --lib what_was_promised_holds -- --nocapture | grep -E "seed|again|message"; \
	seed=$$((seed + 500)); done

bench: build     ## Measure beside mosquitto, rumqttd and rmqttd (ROUNDS, 3, each), and how cost grows; half an hour
	@peers=$$(./setup bench | tail -n 1); \
	trap "integration-tests/services down" EXIT; \
	integration-tests/services start kafka; \
	eval "$$(integration-tests/services env)"; \
	PATH="$$peers:$$PATH" $(TARGET)/release/hookline-bench compare --rounds $(or $(ROUNDS),3); \
	$(TARGET)/release/hookline-bench memory; \
	$(TARGET)/release/hookline-bench growth | tee $(TARGET)/growth.csv; \
	bench/plot $(TARGET)/growth.csv docs/growth.svg

bench-check:     ## Count instructions for each part of the path, and compare them with those recorded
	@./setup build
	@command -v valgrind > /dev/null || ./setup bench-check
	@cargo build $(CARGO_FLAGS) --examples
	@bench/check

logins: build    ## Measure how many clients log in a second (CLIENTS, 10000, each), by backend, with and without memory
	@./setup test > /dev/null
	@trap "integration-tests/services down" EXIT; \
	integration-tests/services up; \
	eval "$$(integration-tests/services env)"; \
	HOOKLINE_LOGINS=$(or $(CLIENTS),10000) cargo test $(CARGO_FLAGS) --test logins rates -- --nocapture --test-threads 1

sinks: build     ## Measure how many records (RECORDS, 200000) a second each sink takes, beside clients written by hand
	@./setup test > /dev/null
	@trap "integration-tests/services down" EXIT; \
	integration-tests/services up; \
	eval "$$(integration-tests/services env)"; \
	HOOKLINE_RECORDS=$(or $(RECORDS),200000) cargo test $(CARGO_FLAGS) --test sinks rates -- --nocapture --test-threads 1

schemas: build   ## Write the JSON Schemas of the configuration
	@$(TARGET)/release/hookline schema schemas/json

packaging:       ## Check images, compose, chart, unit, package, alerts and dashboard, as far as the tools are there
	@./setup packaging
	@packaging/check

clean:           ## Remove what was built; data stays
	@cargo clean
