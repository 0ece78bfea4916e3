"""One run per day asked for: scored, audited, published and tracked, or found published already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd
from pyspark.sql import functions as F

from llmrec_spark.ad_catalogue import ad_columns
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs, read_inputs
from llmrec_spark.daily_publishing import forget_old_runs, publish, published_run
from llmrec_spark.daily_scoring import score_day
from llmrec_spark.errors import AuditError, LlmrecError, ModelError, TryAgainError
from llmrec_spark.explanations import show_lists
from llmrec_spark.input_tables import ADS
from llmrec_spark.registry import ResolvedModel, log_scoring_run
from llmrec_spark.run_notices import export, told
from llmrec_spark.runs import Run, run_id_of, say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_NEIGHBOURS, OWN, RANKINGS, RECOMMENDATIONS, RUNS, TASTES

if TYPE_CHECKING:
    from llmrec_spark.model.checkpoint import ModelConfig

EXAMPLE_LISTS = 10


def publish_days(
    storage: Storage,
    config: Config,
    days: Sequence[date],
    model: Callable[[], ResolvedModel],
    *,
    force: bool = False,
    recompute: bool = False,
    shadow: bool = False,
    show: bool = False,
) -> None:
    """Scores and publishes each day. A published day is left alone without `force`; a shadow run publishes none.

    `model` is called once, when the first day is to be scored. With `show`, three lists of each run that
    published, or of a shadow run, are printed at the end.
    """
    resolved: ResolvedModel | None = None
    scored: list[str] = []
    for day in days:
        if not (shadow or force) and _is_published(storage, day):
            continue
        resolved = resolved or model()
        inputs = read_inputs(storage, config)
        check_model(resolved, config, inputs)
        run = new_run(storage, config, day, inputs, resolved)
        say(f"run {run.run_id}: {day}, model {resolved.version}, {'shadow' if shadow else 'to be published'}")
        if not recompute:
            run.resume()
        with told(storage, config.notify, run, inputs.where) as written:
            try:
                score_day(storage, config, inputs, resolved, run)
            except LlmrecError as error:
                if storage.exists(RUNS):
                    run.record("refused" if isinstance(error, AuditError) else "failed")
                    _track(storage, config, run, inputs, shadow=shadow)
                raise
            written.append(RANKINGS)
            is_published = _finish(storage, run, force=force, shadow=shadow)
            written += [RECOMMENDATIONS] if is_published else []
            scored += [run.run_id] if is_published or shadow else []
        _track(storage, config, run, inputs, shadow=shadow)
        _forget(storage, config, run)
    for one in scored if show else ():
        show_lists(storage, config, one)


def _finish(storage: Storage, run: Run, *, force: bool, shadow: bool) -> bool:
    """Whether the day was published now: not by a shadow run, nor where another job was faster."""
    if shadow:
        run.record("shadow")
        say(f"shadow run {run.run_id} ends with {run.counts[RANKINGS.name]:,} rows in rankings; none are published.")
        return False
    run.record()  # whatever happens now, the next try goes straight to publishing
    if not force and _is_published(storage, run.run_date, but=run):
        return False
    rows = publish(storage, run)
    users = run.counts["users"] - run.counts["users_without_list"]
    say(f"published {run.run_date}: {rows:,} rows for {users:,} users.")
    return True


def _is_published(storage: Storage, day: date, but: Run | None = None) -> bool:
    published = published_run(storage, day)
    if published is None or (but is not None and published.run_id == but.run_id):
        return False
    say(
        f"{day} is published already, by run {published.run_id} with model {published.model_version}. "
        "Give --force to replace it."
    )
    return True


def _forget(storage: Storage, config: Config, run: Run) -> None:
    try:
        forget_old_runs(storage, keep_days=config.tables.keep_days, but=run.run_id)
    except TryAgainError as error:  # the day stands; the next run forgets them
        say(f"  WARNING old runs were not forgotten: {error}")


def _track(storage: Storage, config: Config, run: Run, inputs: Inputs, *, shadow: bool) -> None:
    """One MLflow run per job run, whatever its end. A store that fails is a warning: the tables stand.

    Prometheus has what readers see, so a shadow run is not exported.
    """
    facts = {
        "job": run.job,
        "run_id": run.run_id,
        "run_date": run.run_date,
        "status": run.status,
        "model_version": run.model_version,
        "model_digest": run.model_digest,
        "config_digest": run.config_digest,
        **{f"input.{name}": version for name, version in run.input_versions.items()},
    }
    rates = {f"{name}_rows_per_s": run.counts.get(name, 0) / max(s, 1e-3) for name, s in run.seconds.items()}
    seconds = {f"{name}_seconds": s for name, s in run.seconds.items()}
    if not shadow:
        export(config.notify, run)
    try:
        log_scoring_run(config, facts, {**run.counts, **seconds, **rates}, _example_lists(storage, run, inputs))
    except Exception as error:
        say(f"  WARNING MLflow has no record of run {run.run_id}: {str(error).splitlines()[0][:200]}")


def new_run(storage: Storage, config: Config, day: date, inputs: Inputs, model: ResolvedModel) -> Run:
    """The run of a day, as it stands before its first stage."""
    run_id = run_id_of(day, inputs=inputs.versions, model=(model.version, model.digest), config=config.digest())
    published = published_run(storage, day)
    return Run(
        storage=storage,
        run_id=run_id,
        is_published=published is not None and published.run_id == run_id,
        job="score_daily",
        run_date=day,
        model_version=model.version,
        model_digest=model.digest,
        config_digest=config.digest(),
        input_versions=inputs.versions,
    )


def check_model(model: ResolvedModel, config: Config, inputs: Inputs) -> None:
    """Raises ModelError where the model cannot score by this configuration, DataError where the ads lack its columns.

    That is: registered for other text fields, or without the probabilities that `ranking.order_by: expected_value`
    asks for.
    """
    opened = check_fields(model, config)
    if config.ranking.order_by == "expected_value":
        _check_values(model, config, is_trained=opened.ranker_columns is not None)
    ad_columns(inputs.tables[ADS.name], opened.ranker_columns or (), opened.ranker_groups)


def _check_values(model: ResolvedModel, config: Config, *, is_trained: bool) -> None:
    if not is_trained:
        raise ModelError(
            f"model {model.version}: is not trained, so it gives no p_click, which ranking.order_by: expected_value "
            "asks for. Run jobs/train_model.py, or order by log_odds."
        )
    if config.value.pricing != "per_conversion":
        return
    from llmrec_spark.model.checkpoint import RANKER
    from llmrec_spark.model.taste_ranker import open_taste_ranker

    if open_taste_ranker(str(model.folder / RANKER)).p_conversion is None:
        raise ModelError(
            f"model {model.version}: no click that it learned from is known to have led to a conversion, so it gives "
            "no p_conversion, which ranking.order_by: expected_value with value.pricing: per_conversion asks for. "
            "Train on more days, or with an earlier --date and --until later, or order by log_odds."
        )


def check_fields(model: ResolvedModel, config: Config) -> ModelConfig:
    """What the model is. Raises ModelError where it was registered for other text fields than the configuration's.

    Or where its rerankers read other features than this version gives them.
    """
    from llmrec_spark.model.checkpoint import open_model

    found = open_model(model.folder)
    opened = found.config
    if found.ranker is not None and opened.ranker_reranks:
        from llmrec_spark.model.reranker import open_reranker  # imports torch

        open_reranker(found.ranker)
    if tuple(opened.fields) != tuple(config.text.fields):
        raise ModelError(
            f"model {model.version}: was registered for text.fields {list(opened.fields)}, the configuration has "
            f"{list(config.text.fields)}. Run jobs/register_model.py --alias champion with this configuration."
        )
    return opened


def _example_lists(storage: Storage, run: Run, inputs: Inputs) -> pd.DataFrame:
    """A few lists to look at in MLflow: users are numbered, and nothing tells what they did."""
    ranked = storage.read_run(RANKINGS, run.run_id)
    chosen = ranked.select("user_id").distinct().orderBy(F.md5("user_id"), "user_id").limit(EXAMPLE_LISTS)
    found = (
        ranked.join(chosen, on="user_id", how="left_semi")
        .join(inputs.tables[ADS.name].select("ad_id", "title").dropDuplicates(["ad_id"]), on="ad_id", how="left")
        .select("user_id", "rank", "ad_id", "title", "score", "match", "rate", "lift", "source")
    )
    rows = pd.DataFrame(found.toPandas())
    rows["user"] = pd.factorize(rows["user_id"], sort=True)[0] + 1
    return rows.drop(columns="user_id").sort_values(["user", "rank"], ignore_index=True)


def plan(storage: Storage, config: Config, days: Sequence[date], model: ResolvedModel) -> None:
    """Checks configuration, tables, columns and model, and prints what would be done. Writes nothing."""
    from llmrec_spark.model.checkpoint import open_model

    inputs = read_inputs(storage, config)
    check_model(model, config, inputs)
    reads = open_model(model.folder).config
    for name, version in inputs.versions.items():
        say(f"input {name:<11} {inputs.where[name]}  version {version}")
    say(f"model {model.version}, digest {model.digest[:12]}, fields {', '.join(config.text.fields)}")
    for day in days:
        published = published_run(storage, day)
        shown = f"published by run {published.run_id}, needs --force" if published else "not published"
        say(f"{day}: run {new_run(storage, config, day, inputs, model).run_id}, {shown}")
    of_model = {AD_NEIGHBOURS.name: reads.ranker_neighbours, TASTES.name: reads.ranker_columns is not None}
    written = ", ".join(name for name in OWN if of_model.get(name, True))
    say(f"would write {written} under {config.tables.root or config.tables.catalog}. Nothing was written.")
