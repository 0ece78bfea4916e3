"""A day, from the company's tables to audited lists: the stages in order, each written and read back."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import (
    ad_catalogue,
    ad_statistics,
    ad_texts,
    backgrounds,
    exclusions,
    impressions,
    matches,
    rankings,
    recommendations,
    sequences,
    tastes,
)
from llmrec_spark.ad_neighbours import ad_neighbours
from llmrec_spark.ads import live_ads
from llmrec_spark.candidates import scored_users
from llmrec_spark.config import Config
from llmrec_spark.daily_catalogue import live_figures, ranker_figures, share_catalogue
from llmrec_spark.daily_inputs import CheckedInputs, Inputs, check_inputs
from llmrec_spark.errors import DataError
from llmrec_spark.events import with_consent
from llmrec_spark.history_texts import ad_names, history_texts, history_vectors
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.runs import Run, say
from llmrec_spark.session import parallel_tasks, shuffle_tasks
from llmrec_spark.storage import Storage
from llmrec_spark.tables import (
    AD_NEIGHBOURS,
    AD_STATISTICS,
    AD_TEXTS,
    BACKGROUNDS,
    EXCLUSIONS,
    MATCHES,
    RANKINGS,
    SEQUENCES,
    TASTES,
)

if TYPE_CHECKING:
    from llmrec_spark.model.checkpoint import ModelConfig


class Histories(NamedTuple):
    """What is known of users with a history, one row a user."""

    behaviours: DataFrame  # as sequences.histories gives them
    tastes: DataFrame | None  # of a trained model, as TASTES, with matches.TEXTS if it reads them


@dataclass(frozen=True)
class Day:
    """What the stages of one day share."""

    config: Config
    run: Run
    run_date: date
    model: ResolvedModel
    checked: CheckedInputs
    live: DataFrame  # ads that run on the day
    reads: ModelConfig
    kept: list[DataFrame] = field(default_factory=list)  # on disk until the day ends

    @property
    def is_trained(self) -> bool:
        """Whether the model has a ranker."""
        return self.reads.ranker_columns is not None

    def keep(self, rows: DataFrame) -> DataFrame:
        """Rows that are read more than once, computed once."""
        self.kept.append(rows.persist(StorageLevel.DISK_ONLY))
        return self.kept[-1]


def score_day(storage: Storage, config: Config, inputs: Inputs, model: ResolvedModel, run: Run) -> None:
    """Fills every table of the run up to `rankings` and audits them. Nothing is published here.

    Lists that an earlier try of this run made and that passed the same audit are left as they are. Raises DataError
    for input that must not be scored and AuditError for lists that must not be shown.
    """
    from llmrec_spark.model.checkpoint import open_model

    audited = f"audit {config.audit.model_dump_json()}"  # what it bounds is no part of the run_id
    if audited in run.completed:
        say(f"{RANKINGS.name:<16} {run.counts[RANKINGS.name]:>10,} rows   audited in an earlier try of this run")
        return
    checked = check_inputs(inputs, config, run)
    live = live_ads(checked.ads, on=run.run_date)
    run.counts["ads_live"] = live.count()
    if not run.counts["ads_live"]:
        raise DataError(
            f"inputs.ads ({inputs.where['ads']}): no ad runs on {run.run_date}. Check starts_at and ends_at."
        )
    day = Day(config, run, run.run_date, model, checked, live, open_model(model.folder).config)
    scratch = Path(tempfile.mkdtemp(prefix=f"llmrec_{run.run_id}_"))
    try:
        _fill_tables(storage, day, scratch)
        run.completed.append(audited)
    finally:
        for rows in (*checked.checked, *day.kept):
            rows.unpersist()
        shutil.rmtree(scratch, ignore_errors=True)


def _fill_tables(storage: Storage, day: Day, scratch: Path) -> None:
    config, run = day.config, day.run
    consented = with_consent(day.checked.events, day.checked.users if day.checked.has_consent else None)
    shown = day.keep(
        impressions.clicked_impressions(consented, impressions=config.events.impressions, clicks=config.events.clicks)
    )
    queries = day.keep(sequences.queries(consented, searches=config.events.searches))
    history = run.stage(SEQUENCES, lambda: _sequences(day, consented, shown, queries))
    behaved = day.keep(ad_catalogue.behaved_ads(history, skips=day.is_trained))
    used = day.checked.ads.join(day.live.select("ad_id").union(behaved).distinct(), on="ad_id", how="left_semi")
    texts = run.stage(AD_TEXTS, lambda: _ad_texts(day, used))
    statistics = run.stage(AD_STATISTICS, lambda: _ad_statistics(day, consented, shown))
    by = day.reads.ranker_neighbours
    neighbours = run.stage(AD_NEIGHBOURS, lambda: ad_neighbours(history, by=by)) if by else None
    excluded = run.stage(EXCLUSIONS, lambda: _exclusions(day, consented, shown))
    users = scored_users(day.checked.users, day.checked.events, day.checked.candidates)
    asked = queries.join(
        sequences.recent_queries(history, max_queries=config.sequences.max_queries),
        on="query_hash",
        how="left_semi",
    ).dropDuplicates(["query_hash"])
    catalogue = share_catalogue(
        storage,
        config,
        run,
        day.model,
        day.reads,
        scratch,
        texts=texts,
        asked=asked,
        live=day.live,
        behaved=behaved,
        figures=ranker_figures(day.reads, day.checked.ads, statistics),
        neighbours=neighbours,
    )
    liked = run.stage(TASTES, lambda: _tastes(day, history, catalogue)) if day.is_trained else None
    is_scored = {MATCHES.name, RANKINGS.name} <= set(run.completed)
    if liked is not None and day.reads.ranker_reads_texts and not is_scored:
        liked = _read_histories(day, liked, history, users, texts)
    behaviours = sequences.histories(
        history, as_of=day.run_date, weights=config.events.weights, half_life_days=config.match.half_life_days
    )
    ambient = run.stage(BACKGROUNDS, lambda: _backgrounds(day, behaviours, catalogue))
    figures = live_figures(statistics, ambient, day.live, pricing=config.value.pricing)
    if day.is_trained:
        run.counts["ads_without_price"] = int(figures["price"].isna().sum())
    people = Histories(behaviours, liked)
    scored = run.stage(MATCHES, lambda: _matches(day, users, people, excluded, figures, catalogue))
    ranked = run.stage(RANKINGS, lambda: _rankings(day, scored, excluded, people, figures, catalogue))
    [lists] = recommendations.list_counts(users, ranked, scored, length=config.ranking.max_per_user).collect()
    run.counts |= lists.asDict()
    [found] = recommendations.audit(ranked, day.live, excluded, users, ranking=config.ranking).collect()
    recommendations.refuse_bad_lists(run.run_id, found.asDict(), config.audit)


def _sequences(day: Day, events: DataFrame, shown: DataFrame, queries: DataFrame) -> DataFrame:
    config = day.config
    behaved = sequences.behaviours(
        events, day.checked.ads, queries, weights=config.events.weights, searches=config.events.searches
    )
    [unknown] = behaved.agg(F.count_if(~F.col("is_known")).alias("n")).collect()
    day.run.counts["behaviours_without_ad"] = unknown.n
    return sequences.behaviour_sequences(
        behaved, shown, max_behaviours=config.sequences.max_behaviours, max_skips=config.sequences.max_skips
    )


def _ad_texts(day: Day, ads: DataFrame) -> DataFrame:
    text = day.config.text
    fields = day.keep(ad_texts.field_texts(ads, fields=text.fields, max_characters=text.max_characters))
    [counts] = ad_texts.text_counts(fields).collect()
    day.run.counts |= counts.asDict()
    with_text = ad_texts.ad_texts(fields)
    day.run.counts["ads_without_text"] = ads.join(with_text, on="ad_id", how="left_anti").count()
    return with_text


def _ad_statistics(day: Day, events: DataFrame, shown: DataFrame) -> DataFrame:
    config = day.config.events
    window = {"as_of": day.run_date, "window_days": day.config.statistics.window_days}
    return ad_statistics.ad_statistics(
        day.checked.ads,
        ad_statistics.in_window(events, **window),  # type: ignore[arg-type]
        ad_statistics.in_window(shown, **window) if config.impressions else None,  # type: ignore[arg-type]
        conversions=config.conversions,
        acts=config.acts,
        prior_shown=day.config.statistics.prior_shown,
    )


def _exclusions(day: Day, events: DataFrame, shown: DataFrame) -> DataFrame:
    config, of = day.config.exclusions, day.config.events
    parts = [exclusions.hidden(day.checked.events, negative=of.negatives)]  # of everyone: it only hides
    if config.converted_days is not None:
        parts.append(
            exclusions.converted(events, as_of=day.run_date, conversions=of.conversions, days=config.converted_days)
        )
    if config.resting_impressions is not None:
        parts.append(
            exclusions.resting(shown, as_of=day.run_date, shown=config.resting_impressions, days=config.resting_days)
        )
    return exclusions.exclusions(*parts)


def _tastes(day: Day, history: DataFrame, catalogue: str) -> DataFrame:
    tasks, clicks = parallel_tasks(day.run.storage.spark), day.config.events.answers
    return tastes.tastes(history, as_of=day.run_date, clicks=clicks, catalogue=catalogue, tasks=tasks)


def _read_histories(day: Day, liked: DataFrame, history: DataFrame, users: DataFrame, texts: DataFrame) -> DataFrame:
    """Tastes beside what the language model makes of the histories of who is scored."""
    given = day.checked.candidates
    asked = users if given is None else given.select("user_id").distinct()
    with day.run.timed("history_texts"):
        theirs, names = history.join(asked, on="user_id", how="left_semi"), ad_names(texts, fields=day.reads.fields)
        said = day.keep(history_texts(theirs, names, clicks=day.config.events.answers))
        read = day.keep(history_vectors(said, config=day.config, model_folder=day.model.folder))
        day.run.counts["history_texts"] = read.count()
    return liked.join(read, on="user_id", how="left")


def _backgrounds(day: Day, behaviours: DataFrame, catalogue: str) -> DataFrame:
    sample = backgrounds.sample_histories(behaviours, users=day.config.match.background_users)
    sums = backgrounds.block_sums(
        sample, catalogue=catalogue, live_ads=day.run.counts["ads_live"], match=day.config.match
    )
    return backgrounds.backgrounds(day.keep(sums), day.live)


def _matches(
    day: Day,
    users: DataFrame,
    people: Histories,
    excluded: DataFrame,
    live_figures: pd.DataFrame,
    catalogue: str,
) -> DataFrame:
    requests = matches.match_requests(users, people.behaviours, excluded, day.checked.candidates, people.tastes)
    direct = False
    if day.checked.candidates is not None:  # as many c as the pairs need, or the whole table C
        needed = requests.agg(F.sum(F.size("ad_ids") * F.size("candidates")).alias("n")).first()
        behaved = people.behaviours.select(F.explode("ad_ids")).distinct().count()
        direct = (needed.n or 0) < behaved * len(live_figures)  # type: ignore[union-attr]
        day.run.counts["matched_directly"] = int(direct)
    return matches.matches(
        requests,
        live_figures,
        catalogue=catalogue,
        match=day.config.match,
        ranking=day.config.ranking,
        value=day.config.value,
        direct=direct,
        keep=day.config.match.keep_per_user if day.checked.candidates is None else None,
        tasks=parallel_tasks(day.run.storage.spark),
        reranked=people.tastes if day.reads.ranker_reranks else None,
    )


def _rankings(
    day: Day,
    scored: DataFrame,
    excluded: DataFrame,
    people: Histories,
    live_figures: pd.DataFrame,
    catalogue: str,
) -> DataFrame:
    return rankings.rankings(
        rankings.matched_ads(scored, excluded, tasks=shuffle_tasks(day.run.storage.spark)),
        people.behaviours,
        rankings.group_numbers(pd.DataFrame(rankings.ad_groups(day.live).toPandas())),
        live_figures,
        catalogue=catalogue,
        fields=day.config.text.fields,
        match=day.config.match,
        ranking=day.config.ranking,
        value=day.config.value,
        model_version=day.model.version,
        tastes=people.tastes,
    )
