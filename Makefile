# Commands for development. Each makes what it needs of the environment in .venv where that is missing.

PYTHON ?= python3
BIN := .venv/bin
SMALL := .venv/.built
ENVIRONMENT := $(SMALL) .venv/.dev
SOFTHSM := .venv/softhsm
CHROMIUM := .venv/chromium
BUBBLEWRAP := .venv/bubblewrap
DATA ?= ../shared/data
NETWORK ?= digits
HARNESS := PYTHONPATH=tests:examples/digits
PAPER := PYTHONPATH=tests:benchmarks:examples/pretrained
NETWORKS ?= out/networks
MINUTES ?= 60
ITEMS ?= 10000
MESSAGES ?= 5
FILES ?= 10000

# Archives are dated by the last commit, so that everybody builds the same bytes.
dist sbom wheel: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)

.PHONY: help dev demo sell first-hour test check format bench bench-tracing paper pictures docs pretrained vectors lock dist sbom wheel \
	reproducible cross audit fuzz-coder fuzz-streams fuzz-models fuzz-credentials fuzz-server fuzz \
	hostile mutate faults faults-server leases bench-server clean

help:
	@echo "make demo    sign, verify and strip a trained network"
	@echo "make sell    sell a network: trial, license, unlocking"
	@echo "make first-hour  build the wheel; run the README in an empty environment"
	@echo "make test    run the tests"
	@echo "make check   format, lint, spelling, types, layers, README, advisories"
	@echo "make bench   measure cost and compression"
	@echo "make paper   the paper's experiments; with DATA=folder, PyTorch, and hours."
	@echo "             CIFAR10=path trains its networks first, each for MINUTES=60;"
	@echo "             ITEMS=200 MESSAGES=1 takes less test data and one message a size"
	@echo "make bench-tracing   who is named when copies are mixed, trained, pruned; DATA=, CIFAR10="
	@echo "make pictures    draw the pictures of README and docs again"
	@echo "make docs    build the documentation site in out/site; a link that leads nowhere fails"
	@echo "make pretrained  take networks of others all the way; with DATA=folder and PyTorch"
	@echo "make format  format the code"
	@echo "make vectors make the test vectors again"
	@echo "make lock    pin what CI installs (LOCKED=1), by hash, and list licenses"
	@echo "make dist    build the package"
	@echo "make sbom    build the package, with a bill of materials"
	@echo "make reproducible   build the package twice: are the bytes the same?"
	@echo "make cross   the entropy coder on other processors, with cross compilers and qemu"
	@echo "make wheel   build the wheel for this machine, and test it in an empty environment"
	@echo "make fuzz-coder SECONDS=60   fuzz the entropy coder under sanitizers (clang)"
	@echo "make fuzz-streams SECONDS=60   fuzz units, headers and what reads them (atheris)"
	@echo "make hostile FILES=10000   run hostile files through all commands; what each costs"
	@echo "make fuzz-models SECONDS=60   fuzz what reads models, each kind (atheris)"
	@echo "make fuzz-server EXAMPLES=300   fuzz the license server by its OpenAPI document (schemathesis)"
	@echo "make fuzz-credentials SECONDS=60   fuzz what reads keys, licenses, policies, statements and the like (atheris)"
	@echo "make fuzz MINUTES=60   all of these, one after the other"
	@echo "make mutate  change what verifies and unlocks, a little at a time: do tests notice?"
	@echo "make faults  kill commands and fail their calls, at every point: is anything lost? (an hour)"
	@echo "make leases  5,000 schedules of crashes and clocks: never more leases than there are?"
	@echo "make faults-server  kill license servers, and PostgreSQL, while they issue (half an hour)"
	@echo "make bench-server   license servers on PostgreSQL under load; a ledger of a million orders"

dev: $(ENVIRONMENT)

# With LOCKED=1, as in CI, just the files of the lock; PYTORCH_INDEX is where builds without CUDA are.
# nncodec does not get what it asks for, and need not: conflicts are no news.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts
LOCK := $(if $(LOCKED),requirements/lock.txt)

# What runs nnguard, and the stock decoder, without what that asks for. The tools that build the extension
# are there for this build only, until .venv has them for development.
$(SMALL): pyproject.toml CMakeLists.txt requirements/nncodec.txt $(wildcard src/coder/*) $(LOCK)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(LOCKED),$(PIP) --require-hashes -r $(LOCK))
	$(PIP) $(if $(or $(LOCKED),$(wildcard .venv/.dev)),--no-build-isolation) -e .
	$(PIP) --no-deps -r requirements/nncodec.txt
	touch $@

# What tests, checks and benchmarks need besides.
.venv/.dev: requirements/dev.txt requirements/torch.txt $(LOCK) | $(SMALL)
	$(if $(LOCKED),,$(PIP) -r requirements/dev.txt)
	$(PIP) $(if $(PYTORCH_INDEX),--extra-index-url $(PYTORCH_INDEX)) -r requirements/torch.txt \
		|| echo "No build of PyTorch without CUDA here: tests that need it are skipped."
	touch $@

demo: $(SMALL)
	$(HARNESS) $(BIN)/python examples/demo.py

sell: $(if $(filter digits,$(NETWORK)),$(SMALL),$(ENVIRONMENT))
	$(HARNESS):benchmarks $(BIN)/python examples/try_before_you_buy.py \
		--data $(DATA) --network $(NETWORK) $(if $(WEAKER),--weaker $(WEAKER))

# A newcomer's way: the wheel, an empty environment, the commands of the README in their order.
first-hour:
	rm -rf out/first-hour && mkdir -p out/first-hour
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir out/first-hour .
	$(PYTHON) -m venv out/first-hour/venv
	out/first-hour/venv/bin/python tests/first_hour.py out/first-hour/*.whl

# What writes and verifies bundles of OpenSSF Model Signing besides nnguard.
PEER := .venv/.model_signing
$(PEER): requirements/model_signing.txt $(LOCKED:%=requirements/model_signing-lock.txt)
	$(PYTHON) -m venv .venv/model_signing
	.venv/model_signing/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(LOCKED),--require-hashes -r requirements/model_signing-lock.txt,-r $<)
	touch $@

test: $(ENVIRONMENT) $(PEER) $(SOFTHSM) $(CHROMIUM) $(BUBBLEWRAP)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# A token in software, which tests sign with, and a sandbox, which the gate runs in: Debian's packages,
# unpacked without root, where the system has none.
$(SOFTHSM): PACKAGES := softhsm2 libsofthsm2
$(SOFTHSM): THERE := test -e /usr/lib/softhsm/libsofthsm2.so
$(BUBBLEWRAP): PACKAGES := bubblewrap
$(BUBBLEWRAP): THERE := command -v bwrap
$(SOFTHSM) $(BUBBLEWRAP):
	mkdir -p $@
	$(THERE) || (cd $@ && apt-get -qq download $(PACKAGES) && for file in *.deb; do dpkg -x $$file .; done) \
		|| echo "No $(PACKAGES) here: tests that need it are skipped."

# A browser, which tests look at pages with: Debian's, with the libraries that the system lacks, and a font.
$(CHROMIUM):
	mkdir -p $@
	! command -v apt-get >/dev/null || (cd $@ && apt-get -qq download \
		$$(apt-get -s --no-install-recommends install chromium-headless-shell fonts-dejavu-core fonts-inter \
		| awk '$$1 == "Inst" {print $$2}') && for file in *.deb; do dpkg -x $$file . && rm $$file; done) \
		|| echo "No Chromium here: tests that need it are skipped."

check: $(ENVIRONMENT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_readme.py
	@$(MAKE) --no-print-directory audit

format: $(ENVIRONMENT)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(ENVIRONMENT)
	$(HARNESS) $(BIN)/python benchmarks/cost.py --data $(DATA)
	$(HARNESS) $(BIN)/python benchmarks/coder.py --data $(DATA)
	$(HARNESS) $(BIN)/python benchmarks/compression.py --data $(DATA)

ifdef CIFAR10
TRAINED := vgg16 mobilenetv2 vit
$(NETWORKS)/%.safetensors: | $(ENVIRONMENT)
	$(PAPER) $(BIN)/python benchmarks/paper/train.py $* --cifar10 $(CIFAR10) --output $(NETWORKS) \
		--minutes $(MINUTES)
else
TRAINED := $(basename $(notdir $(wildcard benchmarks/paper/networks/*.nnc)))
$(NETWORKS)/%.safetensors: benchmarks/paper/networks/%.nnc | $(ENVIRONMENT)
	mkdir -p $(NETWORKS) && $(BIN)/nnguard decompress $< -o $@
endif

paper: $(ENVIRONMENT) $(TRAINED:%=$(NETWORKS)/%.safetensors)
	for table in payload paper ours capacity; do $(PAPER) $(BIN)/python benchmarks/paper/measure.py $$table \
		--data $(DATA) --networks $(NETWORKS) --wheels $(NETWORKS)/wheels \
		--items $(ITEMS) --messages $(MESSAGES) --output $(NETWORKS)/results.json || exit 1; done
	$(PAPER) $(BIN)/python benchmarks/paper/page.py $(NETWORKS)/results.json \
		--page docs/results.md --pictures docs/pictures

# Hours, most of them for training; what is in out/tracing is not measured again.
TRACING = --data $(DATA) --cifar10 $(CIFAR10) --wheels out/tracing/wheels --output out/tracing
bench-tracing: $(ENVIRONMENT)
	$(PAPER) $(BIN)/python benchmarks/tracing.py resnet56 $(TRACING) --rates 0.01 0.05 \
		--parts harmless accuracies coalitions strategies --check 1 5
	$(PAPER) $(BIN)/python benchmarks/tracing.py minilm $(TRACING) --rates 1e-4 --steps 300 \
		--trials 20 --parts harmless accuracies coalitions strategies
	$(PAPER) $(BIN)/python benchmarks/tracing_structure.py resnet56 $(TRACING) --repair 0.03
	$(PAPER) $(BIN)/python benchmarks/tracing_structure.py minilm $(TRACING) --repair 1e-4 \
		--repair-steps 150
	$(BIN)/nnguard compress --force out/tracing/tuned/resnet56.urq38-1000-0.01.safetensors -o out/tracing/next.nnc
	$(BIN)/nnguard decompress --force $(DATA)/streams/resnet56.urq38.nnc -o out/tracing/base.safetensors
	$(PAPER) $(BIN)/python benchmarks/tracing_structure.py resnet56 $(TRACING) --stream out/tracing/next.nnc \
		--base out/tracing/base.safetensors --only "a copy" "the base instead"
	for network in resnet20 resnet18; do \
		$(PAPER) $(BIN)/python benchmarks/tracing.py $$network $(TRACING) --parts harmless || exit 1; done
	for network in resnet56 minilm vgg16; do \
		$(PAPER) $(BIN)/python benchmarks/tracing_cost.py $$network --data $(DATA) --wheels out/tracing/wheels || exit 1; done
	$(PAPER) $(BIN)/python benchmarks/tracing_copies.py $(DATA)/streams/resnet20.urq38.nnc
	for network in resnet56 minilm; do for part in tracing tracing_structure; do echo && \
		$(PAPER) $(BIN)/python benchmarks/$$part.py $$network $(TRACING) --report; done; done

pictures: $(ENVIRONMENT)
	$(PAPER):examples/digits $(BIN)/python benchmarks/pictures.py

SITE := .venv/.site
$(SITE): requirements/docs.txt | $(SMALL)
	$(PIP) -r requirements/docs.txt
	touch $@

docs: $(SMALL) $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "out/site/index.html"

pretrained: $(ENVIRONMENT)
	PYTHONPATH=tests:benchmarks:examples/pretrained $(BIN)/python examples/pretrained/run.py --data $(DATA)

vectors: $(ENVIRONMENT)
	$(HARNESS) $(BIN)/python -m vectors.make

# The lock keeps what it has; delete it to take newer versions. What is left out is for browsers only.
lock: $(ENVIRONMENT)
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--no-emit-package httpx2-jsfetch \
		pyproject.toml requirements/dev.txt requirements/docs.txt requirements/tools.txt --output-file requirements/lock.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		requirements/model_signing.txt --output-file requirements/model_signing-lock.txt
	$(BIN)/python supply/licenses.py

TOOLS := .venv/.tools
$(TOOLS): $(ENVIRONMENT) requirements/tools.txt
	$(PIP) -r requirements/tools.txt
	touch $@

audit: $(ENVIRONMENT)
	@$(MAKE) --no-print-directory --silent $(TOOLS) 2>/dev/null || true
	$(BIN)/python supply/audit.py

dist: $(ENVIRONMENT)
	rm -rf dist
	$(BIN)/python -m build --no-isolation

sbom: dist $(TOOLS)
	$(BIN)/python supply/sbom.py dist/*.whl

reproducible: $(TOOLS)
	$(BIN)/python supply/reproducible.py

# Other compilers and processors have to print what this one does.
CROSS_FLAGS := -std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Wpedantic -Werror
cross:
	mkdir -p out/cross
	$(CXX) $(CROSS_FLAGS) tests/cross/coder.cpp -o out/cross/here
	$(CLANGXX) $(CROSS_FLAGS) tests/cross/coder.cpp -o out/cross/clang
	aarch64-linux-gnu-g++ $(CROSS_FLAGS) -static tests/cross/coder.cpp -o out/cross/aarch64
	s390x-linux-gnu-g++ $(CROSS_FLAGS) -static tests/cross/coder.cpp -o out/cross/s390x
	out/cross/here > out/cross/expected && cat out/cross/expected
	out/cross/clang | cmp - out/cross/expected
	qemu-aarch64 out/cross/aarch64 | cmp - out/cross/expected
	qemu-s390x out/cross/s390x | cmp - out/cross/expected

# The wheel as its users get it: built, repaired, installed in an empty environment, tested there.
wheel: $(TOOLS)
	rm -rf out/wheel && mkdir -p out/wheel
	$(BIN)/python -m build --no-isolation --wheel --outdir out/wheel/built
	umask 022 && PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/auditwheel repair --wheel-dir out/wheel out/wheel/built/*.whl
	$(PYTHON) -m venv out/wheel/empty
	out/wheel/empty/bin/python -m pip install --quiet --disable-pip-version-check out/wheel/*.whl pytest
	cd out/wheel && empty/bin/python -m pip check && empty/bin/python -m pytest --noconftest -p no:cacheprovider \
		-c /dev/null $(CURDIR)/tests/wheel

CLANGXX ?= clang++
SECONDS ?= 60
# Comparisons in a coder tell a fuzzer nothing, and tracing them takes nine tenths of the time. What is
# left out of "undefined" is what the address sanitizer sees, too.
FUZZ_FLAGS := -std=c++17 -g -O2 -fsanitize=fuzzer,address,undefined -fno-sanitize-coverage=trace-cmp \
	-fno-sanitize=null,object-size,vptr -fsanitize-trap=undefined
fuzz-coder:
	mkdir -p out/fuzz/corpus tests/fuzz/corpus
	$(CLANGXX) $(FUZZ_FLAGS) tests/fuzz/coder.cpp -o out/fuzz/coder
	ASAN_OPTIONS=quarantine_size_mb=8:malloc_context_size=4 out/fuzz/coder -max_total_time=$(SECONDS) \
		-max_len=160 -print_final_stats=1 -artifact_prefix=out/fuzz/ out/fuzz/corpus tests/fuzz/corpus

hostile: $(ENVIRONMENT)
	$(HARNESS) $(BIN)/python tests/fuzz/hostile.py --files $(FILES)

fuzz-streams: $(ENVIRONMENT)
	$(PIP) atheris
	$(BIN)/python tests/fuzz/streams.py out/fuzz/streams -max_total_time=$(SECONDS) -max_len=4096 \
		-artifact_prefix=out/fuzz/

fuzz-credentials: $(ENVIRONMENT)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	for kind in licenses leases requests license-states lists statements states policies keys bundles records; do \
		$(BIN)/python tests/fuzz/credentials.py $$kind out/fuzz/$$kind -max_total_time=$(SECONDS) \
		-max_len=8192 -timeout=10 -artifact_prefix=out/fuzz/$$kind- || exit 1; done

# Every fuzzer, for MINUTES in all.
fuzz:
	for target in coder streams models credentials; do $(MAKE) --no-print-directory fuzz-$$target \
		SECONDS=$$(( 60 * $(MINUTES) / 10 )) || exit 1; done

# Requests that the OpenAPI document of the license server has, and such as it does not: so many for each operation.
EXAMPLES ?= 300
fuzz-server: $(ENVIRONMENT)
	NNGUARD_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/server/test_openapi.py

mutate: $(ENVIRONMENT)
	$(BIN)/python tests/mutation/mutate.py

faults: $(ENVIRONMENT)
	$(BIN)/python tests/faults/run.py

faults-server: $(ENVIRONMENT)
	PYTHONPATH=tests $(BIN)/python tests/faults/server.py

bench-server: $(ENVIRONMENT)
	PYTHONPATH=tests $(BIN)/python benchmarks/server.py
	PYTHONPATH=tests $(BIN)/python benchmarks/ledger_size.py

fuzz-models: $(ENVIRONMENT)
	$(PIP) atheris
	for kind in safetensors checkpoints indexes; do \
		$(BIN)/python tests/fuzz/models.py $$kind out/fuzz/$$kind -max_total_time=$(SECONDS) \
		-max_len=8192 -timeout=10 -artifact_prefix=out/fuzz/$$kind- || exit 1; done

# As many schedules of what can go wrong with leases; then real processes, for ten minutes.
leases: SCHEDULES ?= 5000
leases: $(ENVIRONMENT)
	NNGUARD_SCHEDULES=$(SCHEDULES) NNGUARD_CHAOS_SECONDS=600 $(BIN)/python -m pytest \
		tests/relay/test_world.py tests/relay/test_processes.py

clean:
	rm -rf .venv build dist out
