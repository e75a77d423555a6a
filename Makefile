# The table of contents of development. `make demo` and `make test` need Python >= 3.11 and make, nothing else.

BIN := .venv/bin
SOURCES := $(wildcard gglib_nb tests tools docs notebooks benchmarks)
# Plugins by name, so that other installed plugins are not used.
PYTEST := PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -p anyio -p timeout -p hypothesispytest
# Where it is set, every test process, engine and kernel compiles all its modules again.
unexport PYTHONDONTWRITEBYTECODE
# SLOW=1 adds tests that take more than two seconds.
SPEED := $(if $(SLOW),,and not slow)

.PHONY: demo test ci lint types js hosts notebooks bench endurance clean

demo: .venv/ready-demo  ## JupyterLab on the first notebook; HEADLESS=1 runs it without a browser; REPO=owner/name uses the real Hub
	@$(BIN)/python tools/demo.py $(if $(HEADLESS),--headless) $(if $(REPO),--repo $(REPO))

# The browser tests run first and alone: synchronous Playwright breaks asynchronous test plugins in its process. Two processes
# share them, but not the slow ones, some of which are about seconds. The other tests wait more than they compute, so three
# processes share them, a file at a time, also on two cores.
test: .venv/ready-dev  ## The default suite
	@$(if $(SLOW),$(BIN)/python -m tests.support.olah)
	@$(PYTEST) $(if $(SLOW),,-p xdist -n 2 --dist loadfile) -m "browser and not network $(SPEED)" tests/browser
	@$(PYTEST) -p xdist -n 3 --dist loadfile -m "not browser and not network $(SPEED)" --ignore=tests/browser tests

ci:  ## Everything, as CI runs it
	@.ci/run

lint: .venv/ready-dev  ## Style and layers
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/lint-imports

types: .venv/ready-dev  ## The library on Linux, Windows and macOS, its public names in user code, the test support
	@$(BIN)/mypy gglib_nb tests/typing tests/support tests/browser
	@$(BIN)/ty check --quiet --python $(BIN)/python tests/typing
	@$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 gglib_nb
	@$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin gglib_nb

js: node_modules/.package-lock.json  ## The panel's page: types and tests; needs Node
	@npm run --silent types
	@npm run --silent test

hosts: .venv/ready-dev  ## The package in environments like those of Colab and SageMaker, the oldest and the newest
	@$(BIN)/python tools/hosts.py

words: .venv/ready-dev  ## Every text that users read, in words.txt
	@$(BIN)/python tools/words.py > words.txt && wc -w words.txt

docs: .venv/ready-dev  ## The generated pages, and the site in build/site; fails on a warning
	@$(BIN)/python tools/pages.py
	@$(BIN)/zensical build --strict

notebooks: .venv/ready-dev  ## Every notebook, top to bottom, against its stored outputs
	@$(BIN)/python tools/demo.py --check

bench: .venv/ready-bench  ## Benchmarks with other downloaders; needs nginx, curl, aria2 and openssl
	@$(BIN)/python -m benchmarks.run

endurance: .venv/ready-dev  ## A queue through random faults, operations and kills: SEED=…, MINUTES=… (10)
	@$(BIN)/python -m tests.endurance.run $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

clean:  ## Removes the files of the other targets
	@rm -rf .venv .hosts .demo node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis test-results

.venv/ready-%: pyproject.toml
	@tools/environment.sh $*

node_modules/.package-lock.json: package-lock.json
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@
