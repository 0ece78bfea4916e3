# make help lists the targets. Everything is installed into .venv and written under local/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
DATE ?= 2026-03-01
NEXT ?= 2026-03-02
DAYS ?= 2026-03-01 2026-03-02 2026-03-03
BIN := .venv/bin
unexport SPARK_HOME SPARK_CONF_DIR  # of another Spark, which bin/spark-submit would start
export PYSPARK_PYTHON := $(CURDIR)/$(BIN)/python
export PYSPARK_DRIVER_PYTHON := $(CURDIR)/$(BIN)/python
LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
SUBMIT := $(BIN)/spark-submit --properties-file conf/spark-defaults.conf
# Ivy's report of how it found the JARs is left out, and its failure said in a sentence; all else of stderr is shown.
IVY := ^(WARNING: Using incubator|Ivy |The jars for|io.delta.delta|:: |\t(\[|found |confs:|[0-9]+ artifacts|:: |---|\||.* (from .* in|by \[)))|^$$|^Downloading artifacts
QUIET := 2> >(sed -uE '/$(IVY)/d; s/^Exception in thread .*(unresolved dependency|download failed): ([^],]*).*/The JAR \2 cannot be fetched: let this machine reach Maven Central once, or put the JARs into ~\/.ivy2.5.2./' >&2)

.PHONY: help install sample score evaluate train test lint ranklens evaluate-ranklens train-ranklens ui browser clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

install: .venv/.jars ## install everything into .venv (several GB: torch), once

.venv/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or newer, or give make PYTHON=..."; exit 69; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version): install Python 3.11 or newer, or give make PYTHON=..."; exit 69; }
	@command -v java >/dev/null || { echo "Java is missing: install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)."; exit 69; }
	@v=$$(java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p' | head -1); test "$${v:-0}" -ge 17 || { echo "Java $${v:-of unknown version} found: install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)."; exit 69; }
	@echo "Installing into .venv (a few minutes the first time) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,sql,notebooks,test]'
	@touch $@

.venv/.jars: .venv/.installed conf/spark-defaults.conf
	@# spark-submit fetches the JARs that spark-defaults.conf names, and Java archives the classes that this job loads
	@$(SUBMIT) --conf "spark.driver.defaultJavaOptions=-XX:ArchiveClassesAtExit=.venv/spark.jsa -Xlog:disable" \
		jobs/archive_classes.py $(QUIET) >.venv/archive.log || { cat .venv/archive.log; exit 69; }
	@touch $@

sample: .venv/.jars
	@test -e local/sample/.loaded || { $(SUBMIT) jobs/load_sample.py --config conf/sample.yaml $(if $(USERS),--users $(USERS)) $(QUIET); echo "$(USERS)" >local/sample/.loaded; }
	@test -z "$(USERS)" || test "$(USERS)" = "$$(cat local/sample/.loaded)" || { echo "local/sample has other people: make clean first."; exit 2; }
	@test -e local/sample/.registered || { $(SUBMIT) jobs/register_model.py --config conf/sample.yaml $(QUIET); touch local/sample/.registered; }

score: sample ## load the sample (USERS=200: of so many people), register the embedded model, publish 2026-03-01, show three users
	@$(SUBMIT) jobs/score_daily.py --config conf/sample.yaml --date $(DATE) --show $(QUIET)
	@echo "Try next:"
	@echo "  $(BIN)/spark-sql --properties-file conf/spark-defaults.conf -i conf/sample_views.sql -e \"SELECT * FROM recommendations LIMIT 5\""
	@echo "  make ui      # the runs in MLflow"

ranklens: .venv/.jars ## make ranklens FROM=folder: load RankLens, score its last lists, print nDCG and AUC
	@test -n "$(FROM)" || { echo "Give the folder of RankLens: make ranklens FROM=../shared/data/ranklens"; exit 2; }
	@$(SUBMIT) jobs/load_ranklens.py --config conf/ranklens.yaml --from "$(FROM)" $(QUIET)
	@test -e local/ranklens/.registered || { $(SUBMIT) jobs/register_model.py --config conf/ranklens.yaml $(QUIET); touch local/ranklens/.registered; }
	@$(SUBMIT) jobs/score_daily.py --config conf/ranklens.yaml --date 2021-11-21 --force $(QUIET)
	@$(SUBMIT) jobs/evaluate_daily.py --config conf/ranklens.yaml --date 2021-11-21 $(QUIET)

train-ranklens: .venv/.jars ## make train-ranklens FROM=folder: learn from the lists before the last, then as make ranklens
	@test -n "$(FROM)" || { echo "Give the folder of RankLens: make train-ranklens FROM=../shared/data/ranklens"; exit 2; }
	@$(SUBMIT) jobs/load_ranklens.py --config conf/ranklens.yaml --from "$(FROM)" $(QUIET)
	@test -e local/ranklens/.registered || { $(SUBMIT) jobs/register_model.py --config conf/ranklens.yaml $(QUIET); touch local/ranklens/.registered; }
	@$(SUBMIT) jobs/train_model.py --config conf/ranklens.yaml --date 2021-11-21 --alias champion $(QUIET)
	@$(SUBMIT) jobs/score_daily.py --config conf/ranklens.yaml --date 2021-11-21 --force $(QUIET)
	@$(SUBMIT) jobs/evaluate_daily.py --config conf/ranklens.yaml --date 2021-11-21 $(QUIET)

evaluate-ranklens: ranklens ## the same: scores the given lists of RankLens and evaluates them

evaluate: sample ## publish three days of the sample, let the simulator answer each, evaluate each
	@for day in $(DAYS); do \
		$(SUBMIT) jobs/run_jobs.py score_daily --config conf/sample.yaml --date $$day \
			then simulate_day --config conf/sample.yaml --date $$day \
			then evaluate_daily --config conf/sample.yaml --date $$day $(QUIET); \
	done

train: sample ## train on the sample, judge it beside the champion on a day both scored, promote it, score with it
	@$(SUBMIT) jobs/run_jobs.py score_daily --config conf/sample.yaml --date $(DATE) \
		then train_model --config conf/sample.yaml --date $(DATE) \
		then score_daily --config conf/sample.yaml --date $(DATE) --model models:/llmrec_ad_matcher@challenger --shadow \
		then simulate_day --config conf/sample.yaml --date $(DATE) $(QUIET) | tee local/sample/shadow.txt
	@$(SUBMIT) jobs/run_jobs.py evaluate_daily --config conf/sample.yaml --date $(DATE) \
			--against $$(sed -n 's/^shadow run \([0-9a-f]*\) .*/\1/p' local/sample/shadow.txt) \
		then promote_model --config conf/sample.yaml \
		then score_daily --config conf/sample.yaml --date $(NEXT) --show $(QUIET)

ui: .venv/.installed ## the MLflow UI on the sample's runs, http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///local/sample/mlflow.db --host 127.0.0.1 --port $(or $(PORT),5000) --workers 1

lint: .venv/.installed ## ruff and mypy
	$(LINT)

browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq >/dev/null \
		&& apt-get install -y -qq chromium >/dev/null; } || echo "chromium cannot be installed here: the report is not tested in a browser."

test: .venv/.jars browser ## lint, types and every test
	@# lint beside them, whose one process would leave the other core idle; a job alone keeps one core busy, at most
	@{ $(LINT); } >.venv/lint.log 2>&1 & lint=$$!; failed=0; \
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 12 || failed=$$?; \
	wait $$lint || failed=1; cat .venv/lint.log; exit $$failed

clean: ## remove what the targets wrote (local/); .venv stays
	rm -rf local
