# Every target sets up .venv by itself when it is missing or when the lock has changed (CPU=1: PyTorch without CUDA).
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))) python3)
VENV ?= .venv
STUDY ?= mini
JOBS ?= 0
CLUSTER ?=
PICTURES ?=
NAMES ?=
UV := uv==0.13.9
CPU ?= $(wildcard $(VENV)/.cpu)
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) uv pip install --python $(VENV)/bin/python
READY := $(VENV)/.installed

export PATH := $(abspath $(VENV))/bin:$(PATH)
.DEFAULT_GOAL := help
.NOTPARALLEL: # the stages of a study share one lock: under `make -j` the targets still run one by one
.PHONY: help study study-all report predict pretrain tune bench test course browser faults lint audit lab lock

help: ## list the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

study: $(READY) ## run the main story of a study and its report (STUDY=mini, or a name in studies/; JOBS=n stages at a time; CLUSTER=local or the address of a Dask scheduler)
	$(RUN) tools.stages.run --study $(STUDY) --jobs $(JOBS) --cluster "$(CLUSTER)"

study-all: $(READY) ## run what is new or changed among all runs and seeds, and take over the rest
	$(RUN) tools.stages.run --study $(STUDY) --jobs $(JOBS) --cluster "$(CLUSTER)" --all

report: $(READY) ## make the report and the slides again from what is there, and a page of every notebook
	$(RUN) tools.stages.run --study $(STUDY) --target report
	$(if $(filter mini,$(STUDY)),$(RUN) tools.course.site)

predict: $(READY) ## answers for your own pictures, after `make study` (PICTURES=folder NAMES="the cat, the violin")
	@$(RUN) lib.study.predict "$(PICTURES)" --names "$(NAMES)" --study $(STUDY)

pretrain: $(READY) ## train the tiny CLIP again from nothing
	$(RUN) tools.stages.run --force --target pretrain

tune: $(READY) ## choose the methods' numbers again, on held-out training pictures of three tasks
	$(RUN) lib.study.tuning

bench: $(READY) ## measure a training step at ViT-B/16 beside the plain way, and what else takes time
	$(RUN) tools.bench.run

test: $(READY) ## run the tests
	$(RUN) pytest -q

course: $(READY) ## make the students' notebooks from those with solutions, and run these and their checks
	$(RUN) tools.course.exercises
	$(RUN) pytest -q tests/run_course.py

browser: $(READY) ## run notebooks in JupyterLab and open the report, in a browser without a window (ALL=1: all of them); needs chromium
	$(RUN) pytest -q tests/run_browser.py tests/run_page.py

faults: $(READY) ## kill the study at random moments and break what it stands on (FAULT_KILLS=n, FAULT_SEED=n)
	$(RUN) pytest -q -s tests/run_faults.py

lint: $(READY) ## check style and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) pyright

audit: $(READY) ## ask whether a locked package has a known vulnerability
	$(RUN) pip_audit --disable-pip --require-hashes -r requirements.lock

lab: $(READY) ## open the notebooks in JupyterLab
	$(RUN) jupyterlab --notebook-dir=. notebooks/00_start_here.ipynb

lock: | $(VENV)/bin/uv ## pin again what pyproject.toml asks for (MORE=--upgrade for the newest)
	$(RUN) uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --all-extras \
	    --no-header --quiet $(MORE) pyproject.toml -o requirements.lock

$(READY): requirements.lock pyproject.toml $(if $(CPU),$(VENV)/.cpu) | $(VENV)/bin/uv
ifeq ($(CPU),)
	$(INSTALL) --compile-bytecode --require-hashes -r requirements.lock
else
	$(VENV)/bin/python .binder/without_torch.py > $(VENV)/lock
	$(INSTALL) --compile-bytecode --no-deps --require-hashes -r $(VENV)/lock
	$(INSTALL) --no-deps --torch-backend cpu $(shell grep -Eo '^torch(vision)?==[^ ]+' requirements.lock)
endif
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.cpu: | $(VENV)/bin/uv # remembers the choice; delete .venv to change it back
	@touch $@

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11, 4) <= sys.version_info[:3] < (3, 14))' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' is no Python 3.11.4 to 3.13 with venv. Install one (python3.11 and python3.11-venv)," \
	        "or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check $(UV)
