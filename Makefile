# `make demo` and `make test` set everything up; a second run repeats no set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BOOK := $(VENV)/.book
# Bytecode is kept, even where the environment says not to: half of what a test process costs is compiling.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
TYPED := --jaxtyping-packages=codebound,beartype.beartype

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench choosing default-model speech-model wavelet-model generation-models lint format docs docs-serve course clean constraints

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 19

setup: $(READY)  ## make .venv and install the package and its tools

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "codebound needs Python 3.11 or newer; give one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## run the initialisation study on three seeds and write its report (minutes)
	$(BIN)/codebound study init --quick --out runs/demo

test: $(READY)  ## run the tests
	$(PYTEST) -n 2 --dist loadfile -m "not slow and not untyped" $(TYPED)
	$(PYTEST) -n 2 --dist worksteal -m "untyped and not slow"

test-slow: $(READY)  ## run the tests that take minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,trainers,dask,ray,hf,wandb,tensorboard,jxl,speech-metrics]'
	$(PYTEST) -m "slow and not untyped" $(TYPED)
	$(PYTEST) -m "slow and untyped" || test $$? -eq 5

bench: $(READY)  ## time the code against named baselines, into docs/benchmarks.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/search.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/layer.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kmeans.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/training.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tokenizer.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/imports.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pictures.py --write

choosing: $(READY)  ## measure which quantizer to choose, into docs/choosing.md (10 to 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/choosing.py

default-model: $(READY)  ## train the model that `codebound compress` ships with (half an hour), into the package
	$(BIN)/codebound train tools/default_model.yaml --out runs/default-model
	$(BIN)/codebound fit-prior runs/default-model --steps 1500 --hidden 64
	cp runs/default-model/model/* src/codebound/tokenizers/default_model/

# The card's first lines (README.md) are written by hand: data, voices, what it can't do.
speech-model: $(READY)  ## train the model that `codebound compress speech.wav` ships with (a quarter of an hour), into the package
	$(BIN)/codebound train audio --out runs/speech-model
	$(BIN)/codebound fit-prior runs/speech-model --steps 800 --hidden 48
	for file in config.json model.safetensors manifest.json prior.json prior.safetensors; do \
	  cp runs/speech-model/model/$$file src/codebound/tokenizers/default_speech/ || exit 1; done

wavelet-model: $(READY)  ## fit the model of pictures' files from the recipe's pictures (a quarter of an hour), into the package
	$(BIN)/python tools/fetch_pictures.py runs/wavelet-pictures
	OMP_NUM_THREADS=1 $(BIN)/python tools/fit_wavelet.py runs/wavelet-pictures/fit

# Their cards (README.md) are written by hand, with the figures of each run's final_metrics.json.
generation-models: $(READY)  ## train the models that `codebound sample default` ships with (under half an hour), into the package
	$(BIN)/codebound train --data fashion-mnist --steps 3000 --device cpu --out runs/generation-tokenizer
	$(BIN)/codebound train prior runs/generation-tokenizer --device cpu --out runs/generation-prior
	for part in tokenizer prior; do for file in config.json model.safetensors manifest.json; do \
	  cp runs/generation-$$part/model/$$file src/codebound/generators/default_model/$$part/ || exit 1; done; done

lint: $(READY)  ## ruff, pyright and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY)  ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BOOK): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

docs: $(BOOK)  ## build the site, strictly, into build/site
	$(BIN)/python tools/site/build.py build/site

docs-serve: docs  ## show the site at http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory build/site

course: $(BOOK)  ## run every chapter of the course and keep what it prints and draws (two minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tools/site/run_course.py

constraints: $(READY)  ## pin what is installed now
	{ echo '# What CI installs: pip install -c constraints.txt -e ".[dev]"; test-slow and bench add extras. Regenerate with `make constraints`.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' | sort -f; } > constraints.txt

clean:  ## remove the environment, caches and built files; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
