PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: test test-extras quick check site docs stress demo bench clean

# Run everything that a commit has to pass.
test: check
	$(BIN)/pytest -q

# Run the tests with packages of other people that read and write the same files; they are installed first.
test-extras: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,interop]'
	$(BIN)/pytest -q tests/extras

# Run the tests that start no process, in about a minute.
quick: $(INSTALLED)
	$(BIN)/pytest -q -m 'not process and not stress'

# Check lint, format, types, the layers of imports and the links of the documentation.
check: site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Build the documentation in build/site. A broken link is an error.
site: $(INSTALLED)
	$(BIN)/zensical build --strict --clean

# Write the option tables of docs/cli.md, which a test compares with the code, and build the documentation.
docs: $(INSTALLED)
	$(BIN)/python docs/option_tables.py
	$(MAKE) site

# Run the long forms of some tests: hours of cron in a few minutes.
stress: $(INSTALLED)
	$(BIN)/pytest -q -s -m stress --timeout 7200

# Score drawn scenes with the built-in model: for each, the right caption and two wrong ones.
demo: $(INSTALLED)
	$(BIN)/longclip-score examples/scenes.jsonl --image-root examples --model demo -o .venv/scenes.jsonl
	$(BIN)/python examples/compare.py .venv/scenes.jsonl

# Measure speed and memory next to a plain loop: half an hour. BENCH='--device cuda' measures a GPU.
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt transformers
	# Only for the photographs that these packages contain.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps scikit-image scikit-learn
	$(BIN)/python benchmarks/benchmark.py $(BENCH)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
