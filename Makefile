# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Files are spread over two processes; a file's tests share its fixtures.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

.PHONY: help run test test-all check lock runtime space clean

help:
	@echo "make run      install what the app needs, and serve it on http://127.0.0.1:7860"
	@echo "make test     install what the tests need, a browser included, and run all tests but the slow ones"
	@echo "make test-all the slow tests, too"
	@echo "make check    formatter, linter, type checker, documents and docstring examples"
	@echo "make lock     record the exact set of versions in requirements.lock"
	@echo "make runtime  refresh onnxruntime-web, which runs the models in the static page (needs npm)"
	@echo "make space SPACE=user/name MODEL=user/name [SDK=static] [HARDWARE=zero-a10g]   upload the Space"

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

# The static page's copy of onnxruntime-web; its licence is that of ONNX Runtime. `.js`, since some
# hosts serve `.mjs` as no script.
ONNXRUNTIME_WEB := 1.30.0
RUNTIME := static_page/runtime
runtime:
	cd $(RUNTIME) && npm pack --silent onnxruntime-web@$(ONNXRUNTIME_WEB) && \
	tar -xzf onnxruntime-web-*.tgz && \
	cp package/dist/ort.wasm.bundle.min.mjs ort.wasm.bundle.min.js && \
	gzip -9nc package/dist/ort-wasm-simd-threaded.wasm > ort-wasm-simd-threaded.wasm.gz && \
	printf '{"name": "onnxruntime-web", "version": "%s", "sha256": {"%s": "%s", "%s": "%s"}}\n' \
	  $(ONNXRUNTIME_WEB) $$(sha256sum ort.wasm.bundle.min.js ort-wasm-simd-threaded.wasm.gz | \
	  awk '{print $$2, $$1}') > runtime.json && \
	rm -r package onnxruntime-web-*.tgz

space: $(VENV)/.app
	$(BIN)/python deploy.py --space "$(SPACE)" --model "$(MODEL)" $(if $(SDK),--sdk "$(SDK)") $(if $(HARDWARE),--hardware "$(HARDWARE)")

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
