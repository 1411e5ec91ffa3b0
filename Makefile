PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: test check stress demo clean

# Everything a commit has to pass.
test: check
	$(BIN)/pytest -q

# Lint, format and types.
check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The long forms of the tests that have a short one: hours of cron in some minutes.
stress: $(INSTALLED)
	$(BIN)/pytest -q -s -m stress

# Scores the pictures in examples/ with a small network of random weights: it shows the rows, not what fits.
demo: $(INSTALLED)
	@echo "A random network scores these pictures: the numbers mean nothing, the rows are as they will be."
	$(BIN)/python tests/golden/make_checkpoint.py original .venv/random.pt
	$(BIN)/longclip-score examples/pictures.jsonl --image-root examples --model .venv/random.pt

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
