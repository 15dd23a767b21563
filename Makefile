# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run test check lock space clean

help:
	@echo "make run      install what the app needs, and serve it on http://127.0.0.1:7860"
	@echo "make test     install what the tests need, a browser included, and run them all"
	@echo "make check    formatter, linter and type checker"
	@echo "make lock     record the exact set of versions in requirements.lock"
	@echo "make space SPACE=user/name MODEL=user/name   upload the Space"

run: $(VENV)/.app
	$(BIN)/python app.py

test: $(VENV)/.dev
	@command -v chromium chromium-browser google-chrome >/dev/null || $(MAKE) --no-print-directory browser
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

space: $(VENV)/.app
	$(BIN)/python deploy.py --space "$(SPACE)" --model "$(MODEL)"

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

.PHONY: browser
browser:
	@if [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-liberation; \
	else \
	  sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends chromium fonts-liberation; \
	fi

# A stamp for each set of packages: installed again when its list or the lock changes.
$(VENV)/.app: requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt -c requirements.lock
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt -c requirements.lock
	touch $@ $(VENV)/.app
