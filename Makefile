# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Files are spread over two processes; a file's tests share its fixtures.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

.PHONY: help run test test-all check lock space clean

help:
	@echo "make run      install what the app needs, and serve it on http://127.0.0.1:7860"
	@echo "make test     install what the tests need, a browser included, and run all tests but the slow ones"
	@echo "make test-all the slow tests, too"
	@echo "make check    formatter, linter, type checker, documents and docstring examples"
	@echo "make lock     record the exact set of versions in requirements.lock"
	@echo "make space SPACE=user/name MODEL=user/name   upload the Space"

run: $(VENV)/.app
	$(BIN)/python app.py

test: $(VENV)/.dev browser
	$(PYTEST) -m "not slow and not documents"

test-all: $(VENV)/.dev browser
	$(PYTEST) -m "not documents"

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m documents
	$(BIN)/python -m pytest -q --doctest-modules classifier evaluation interface

lock: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

space: $(VENV)/.app
	$(BIN)/python deploy.py --space "$(SPACE)" --model "$(MODEL)"

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# Chromium drives the tests of the page; it is installed where no browser is.
.PHONY: browser
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
	  $$sudo apt-get update -qq && \
	  $$sudo apt-get install -y -qq --no-install-recommends chromium fonts-liberation; }

# A stamp for each set of packages: installed again when its list or the lock changes.
$(VENV)/.app: requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt -c requirements.lock
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt -c requirements.lock
	touch $@ $(VENV)/.app
