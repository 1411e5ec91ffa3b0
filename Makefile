PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: test check stress demo bench clean

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
	$(BIN)/pytest -q -s -m stress --timeout 7200

# Scores drawn scenes with the built-in model: for each, the right caption against two wrong ones.
demo: $(INSTALLED)
	$(BIN)/longclip-score examples/scenes.jsonl --image-root examples --model demo -o .venv/scenes.jsonl
	$(BIN)/python examples/compare.py .venv/scenes.jsonl

# Speed and memory against a plain loop, side by side: half an hour. BENCH='--device cuda' measures a GPU.
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt transformers
	# For the photographs in them alone.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps scikit-image scikit-learn
	$(BIN)/python benchmarks/benchmark.py $(BENCH)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
