# Everything runs in .venv, which is made on first use. Another interpreter: make PYTHON=python3.12
PYTHON ?= python3
IN = .venv/bin/python

.PHONY: .venv demo test test-all test-targets fuzz audit check docs bench results clean

.venv: .venv/installed

# The stamp is written last: an installation that broke off is done again.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "jaxgan needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	    "name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(IN) -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: .venv
	$(IN) experiments/train.py --flagfile=experiments/recipes/demo.cfg

# Two at a time: most of a test is compilation, which takes one core.
test: .venv
	$(IN) -m pytest -n 2 --dist worksteal -m "not slow"

# With the compiler's usual optimization, which `make test` does without.
test-all: .venv
	XLA_FLAGS= $(IN) -m pytest -n 2 --dist worksteal

# What compiles for TPUs and GPUs that are not here. The compilers lie beside .venv: were libtpu in it,
# JAX would look for a TPU at every start.
test-targets: .venv
	$(IN) -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps --upgrade \
	  --target .cache/targets libtpu jax-cuda12-plugin jax-cuda12-pjrt
	XLA_FLAGS= PYTHONPATH=.cache/targets $(IN) -m pytest tests/training/test_targets.py

# All cases of damaged files, of which `make test` tries a few, and of kills, which take hours.
# JAXGAN_FUZZ=2000:4000 tries those of these numbers.
fuzz: .venv
	JAXGAN_FUZZ=$${JAXGAN_FUZZ:-full} $(IN) -m pytest -q tests/fuzz

# Whether weaknesses of the pinned dependencies are known; asks the package index, so it needs a
# network. In an environment of its own, as it brings packages that nothing else here has.
audit:
	$(PYTHON) -m venv .cache/audit
	.cache/audit/bin/python -m pip install -q --disable-pip-version-check pip-audit
	.cache/audit/bin/python -m pip_audit --strict --no-deps --disable-pip -r constraints.txt

check: .venv
	$(IN) -m ruff check
	$(IN) -m ruff format --check
	$(IN) -m mypy

# The site, in build/docs; a warning is an error.
docs: .venv
	$(IN) -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(IN) -m sphinx -W --keep-going -n -q -b html docs build/docs

bench: .venv
	$(IN) -m pip install --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(IN) benchmarks/peers.py

# Each page of results, its commit and age, and the code that is newer.
results: .venv
	$(IN) experiments/results/make.py --check

# Leaves workdir/ and runs/ alone.
clean:
	rm -rf .venv .cache .hypothesis .pytest_cache .ruff_cache .mypy_cache build docs/results *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
