# make demo    see it work: a private broker, a private sshd, three daemons; FILES="..." sends copies of your own files
# make test    every test against the real parts
# make scale   memory, idle load and status with twenty thousand items waiting
# make check   the fast loop: format, lints, docs, unit and simulator tests
# make bench   speed beside plain rsync, in one run

CARGO ?= cargo
FILES ?=

.PHONY: all demo test scale check bench setup clean

all:
	$(CARGO) build --release --locked

setup:
	@sh .ci/setup

demo: setup
	$(CARGO) build --release --locked --bins
	$(CARGO) run --release --locked --quiet --example demo -- $(FILES)

check: setup
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	$(CARGO) test --locked --lib --bins --test architecture --test docs --test config --test protocol --test sim

test: setup
	$(CARGO) build --locked --bins
	$(CARGO) test --locked --test broker --test check --test control --test ctl --test files --test journal --test rsync --test rsync_failures
	$(CARGO) test --locked --test real -- --test-threads 2 --skip scale::

# Twenty thousand items at rest: minutes, and figures that a busy machine spoils.
scale: setup
	$(CARGO) build --locked --bins
	$(CARGO) test --locked --test real -- --test-threads 1 scale::

bench: setup
	$(CARGO) build --release --locked --bins
	$(CARGO) bench --locked --bench handover

# The packages. The same commit gives the same bytes: times are the commit's, paths are cut from the programs.
export SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 1795392000)
TOOLS := $(CURDIR)/target/tools

deb: setup
	@sh packaging/tools cargo-deb $(TOOLS)
	RUSTFLAGS="--remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(HOME)=." $(CARGO) build --release --locked --bins --target-dir target/package
	PATH="$(TOOLS)/bin:$$PATH" CARGO_TARGET_DIR=target/package cargo-deb --no-build --output target/packages/

rpm: deb
	@sh packaging/tools nfpm $(TOOLS)
	sh packaging/rpm/build $(TOOLS)

clean:
	$(CARGO) clean
