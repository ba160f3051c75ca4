# The commands of this repository. `make` lists them. Each installs what it needs first; steps of `make test` run in
# order, cheap ones first, so that most mistakes show within seconds.
.NOTPARALLEL:
.DEFAULT_GOAL := help

target_dir := $(abspath $(or $(CARGO_TARGET_DIR),target))
ARGS ?=

export NATS_SERVER ?= $(target_dir)/tools/nats-server
export NATS_SERVER_2_9 ?= $(target_dir)/tools/nats-server-2.9
export GUESTS_DIR ?= $(target_dir)/components/wasm32-wasip2/plugin

step = @printf '\n== %s\n' "$(1)"

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: servers ## Check the toolchain, add the WebAssembly target, get what the tests talk to: NATS servers, an OpenID provider, a browser
	@tests/support/install-nats-client.sh
	@tests/support/install-identity-provider.sh
	@tests/support/install-browser.sh

# Without what only tests need.
.PHONY: servers
servers:
	@tests/support/prepare-toolchain.sh
	@tests/support/install-nats-server.sh

.PHONY: demo
demo: servers ## Show an event on its way from NATS to a service, filtered by components (options: ARGS=--remote, ARGS=--help)
	cargo build -p distributor -p demo
	@$(target_dir)/debug/demo $(ARGS)

.PHONY: test
test: setup lint deploy-check reproducible guests examples image sbom fuzz ## Run everything that CI runs
	$(call step,tests)
	@tests/support/run-tests.sh

.PHONY: soak
soak: setup guests ## Run the tests of lost events, of swaps and of leaking plugins at full length, with a release build (about 40 min)
	$(call step,soak)
	@SOAK=1 cargo test --release --package distributor --test e2e -- jetstream:: plugin_recycling:: plugin_slow:: plugin_swaps:: --test-threads=1 --nocapture

.PHONY: fuzz
fuzz: ## Feed damaged input to all that reads what comes from outside (a minute for each target; options: FUZZ_SECONDS=)
	$(call step,fuzz)
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) cargo test --package distributor --lib -- fuzz:: --test-threads=16

.PHONY: lint
lint: ## Check format, clippy, documentation and dependencies
	$(call step,format)
	@cargo fmt --all --check
	$(call step,clippy)
	@cargo clippy --workspace --all-targets -- -D warnings
	$(call step,documentation)
	@RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
	$(call step,dependencies)
	@tests/support/install-cargo-tool.sh cargo-deny 0.20.2
	@tests/support/check-dependencies.sh

.PHONY: deploy-check
deploy-check: ## Render what is in deploy/ and check it against the schemas of Kubernetes and against our own rules
	$(call step,deployment)
	@tests/support/install-deploy-tools.sh
	@tests/support/check-deploy.sh

.PHONY: sbom
sbom: ## Write what the image is made of into target/sbom (CycloneDX)
	$(call step,bill of materials)
	@tests/support/install-cargo-tool.sh cargo-cyclonedx 0.5.9
	@PATH="$(target_dir)/tools/bin:$$PATH" deploy/sbom.sh $(target_dir)/sbom

.PHONY: image
image: ## Make the root file system of the image, in target/image
	$(call step,image)
	@tests/support/install-musl.sh
	@PATH="$$PATH:$(target_dir)/tools/musl/bin" deploy/image.sh $(target_dir)/image

.PHONY: reproducible
reproducible: ## Build the embedded components in two folders and compare
	$(call step,reproducible components)
	@tests/support/reproducible-component.sh

.PHONY: guests
guests: ## Build the components that the tests load
	$(call step,guests)
	@tests/support/build-guests.sh

.PHONY: examples
examples: ## Build the example plugins in five languages, each as its README says
	$(call step,examples)
	@tests/support/build-examples.sh

.PHONY: bench
bench: servers guests ## Measure beside a bare relay, end to end, and judge by the goals (options: ARGS=--quick, ARGS=--scaling, ARGS=--help)
	cargo build --release -p distributor -p bench
	@$(target_dir)/release/bench $(ARGS)

.PHONY: bench-micro
bench-micro: servers ## Measure single steps: parsing, matching, one call of a component
	cargo bench -p distributor $(ARGS)
