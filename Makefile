# Few targets, each complete in itself: what a target needs is set up first.
# `make` alone lists them.

# Interpreters other than those on the PATH: make EMACS=emacs-30 PYTHON=python3.13 test
EMACS ?= emacs
PYTHON ?=
# package-lint's directory, where it is not Debian's elpa-package-lint
PACKAGE_LINT ?=
# The demo's directory and question (by default the one in .ci/question)
DIR ?= .
Q ?=

# A bare machine may have no locale at all; the text of the project is UTF-8.
LANG ?= C.UTF-8

python := .venv/bin/python
# What was typed is meant as it is: a dollar sign in a question is no variable.
override DIR := $(value DIR)
override Q := $(or $(value Q),$(file <.ci/question))
export EMACS PYTHON PACKAGE_LINT DIR Q LANG
export RLM_SERVER_PYTHON := $(CURDIR)/$(python)

# Handed over in the environment, so that no quote or blank in them is the shell's business.
ask = RLM_DEMO_DIR="$$(cd "$$DIR" && pwd)" && export RLM_DEMO_DIR && \
	RLM_DEMO_QUESTION="$$Q" "$$EMACS" -Q -L elisp -l rlm-demo
elisp_tests := $(basename $(notdir $(wildcard tests/elisp/*-test.el)))

# A test that stands in for a primitive would make Emacs compile natively, into the cache of the
# person who runs it, and fail where the test has another home directory than Emacs started with.
# Emacs 28 has the first name, later ones the second.
# Collecting garbage after every 800 kB was two thirds of what a compiled Emacs 28 itself took.
for_tests = (setq gc-cons-threshold 100000000 \
	comp-enable-subr-trampolines nil native-comp-enable-subr-trampolines nil)

# Runs in the Emacs that is named above and, where that could be had, in Emacs 30 beside it.
in_each_emacs = @sh .ci/emacsen "$$EMACS" "$(CURDIR)/.cache/emacs-30/emacs" -Q --batch $(1)

# Most tests wait for other processes, so that the processors have room for one more.
workers := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

.PHONY: help demo try test lint lint-python lint-elisp bench info pictures proxy ert pytest clean lock setup-demo setup-test
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

demo: setup-demo ## ask a question about a directory: make demo DIR=~/src/x Q="..."
	@$(ask) --batch -f rlm-demo-batch

try: setup-demo ## the same, in an Emacs on this terminal
	@test -t 0 && test -t 1 || { echo "make try needs a terminal; make demo does not." >&2; exit 1; }
	@$(ask) -nw -f rlm-demo-try

test: lint pytest ert ## run the linters and all tests

# Side by side, because each uses one processor; what each says stays together.
lint: setup-test ## run the linters alone; a warning is a failure
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint-python lint-elisp

lint-python:
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy

lint-elisp:
	$(call in_each_emacs,-l tests/elisp/lint.el -f lint-and-exit)

pytest: setup-test ## run the tests in Python alone
	$(python) -m pytest --numprocesses $(workers) --maxschedchunk 1

ert: setup-test ## run the tests in Emacs alone
	@test -n "$(elisp_tests)" || { echo "There are no tests in tests/elisp." >&2; exit 1; }
	$(call in_each_emacs,--eval '$(for_tests)' \
		-L elisp -L tests/elisp $(addprefix -l ,$(elisp_tests)) \
		-f ert-run-tests-batch-and-exit)

bench: setup-test ## run the benchmarks
	$(python) tests/bench/run.py

info: ## write the manual as .cache/rlm.info; takes makeinfo (texinfo)
	@mkdir -p .cache
	"$$EMACS" -Q --batch elisp/rlm.org --eval \
	    "(progn (require 'ox-texinfo) (org-export-to-file 'texinfo \"$(CURDIR)/.cache/rlm.texi\"))"
	makeinfo --no-split -o .cache/rlm.info .cache/rlm.texi
	@echo "Read it with: info -f .cache/rlm.info, or C-u C-h i in Emacs."

pictures: setup-test ## make the pictures of the README from a run of the demo
	cd tests && $(CURDIR)/$(python) pictures.py

# As big as all the rest together, so for this one test alone.
proxy: setup-test ## run the test against a LiteLLM proxy, which takes 750 MB and a minute to install
	@cmp -s tests/proxy.lock .cache/proxy/lock || { \
	    $(python) -m venv --clear .cache/proxy && \
	    .cache/proxy/bin/python -m pip -qq --disable-pip-version-check install \
	        --require-hashes --no-deps --only-binary :all: --requirement tests/proxy.lock && \
	    cp tests/proxy.lock .cache/proxy/lock; }
	RLM_TEST_LITELLM_PROXY=$(CURDIR)/.cache/proxy/bin/litellm \
	    $(python) -m pytest tests/e2e/test_litellm_proxy.py

lock: ## renew the lock files; UPGRADE=1 takes the newest versions
	sh .ci/lock

clean: ## remove what the other targets have made here
	rm -rf .venv .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find elisp tests -name '*.elc' -delete

setup-demo:
	@sh .ci/setup demo

setup-test:
	@sh .ci/setup test
	@sh .ci/emacs30
