"""Each stage of a day, given what came before it: rows that are not written yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import ad_statistics, ad_texts, backgrounds, exclusions, matches, rankings, sequences, tastes
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import CheckedInputs
from llmrec_spark.history_texts import ad_names, history_texts, history_vectors
from llmrec_spark.outcomes import settled_acts, settled_clicks
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.runs import Run
from llmrec_spark.session import parallel_tasks, shuffle_tasks

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


def day_sequences(day: Day, events: DataFrame, shown: DataFrame, queries: DataFrame) -> DataFrame:
    """SEQUENCES; counts the behaviours whose ad nobody knows."""
    config = day.config
    behaved = sequences.behaviours(
        events, day.checked.ads, queries, weights=config.events.weights, searches=config.events.searches
    )
    [unknown] = behaved.agg(F.count_if(~F.col("is_known")).alias("n")).collect()
    day.run.counts["behaviours_without_ad"] = unknown.n
    return sequences.behaviour_sequences(
        behaved, shown, max_behaviours=config.sequences.max_behaviours, max_skips=config.sequences.max_skips
    )


def day_texts(day: Day, ads: DataFrame) -> DataFrame:
    """AD_TEXTS; counts what was cut, and the ads without any text."""
    text = day.config.text
    fields = day.keep(ad_texts.field_texts(ads, fields=text.fields, max_characters=text.max_characters))
    [counts] = ad_texts.text_counts(fields).collect()
    day.run.counts |= counts.asDict()
    with_text = ad_texts.ad_texts(fields)
    day.run.counts["ads_without_text"] = ads.join(with_text, on="ad_id", how="left_anti").count()
    return with_text


def day_statistics(day: Day, events: DataFrame, shown: DataFrame) -> DataFrame:
    """AD_STATISTICS, with what clicks led to where a trained model reads it."""
    config = day.config.events
    window = {"as_of": day.run_date, "window_days": day.config.statistics.window_days}
    return ad_statistics.ad_statistics(
        day.checked.ads,
        ad_statistics.in_window(events, **window),  # type: ignore[arg-type]
        ad_statistics.in_window(shown, **window) if config.impressions else None,  # type: ignore[arg-type]
        conversions=config.conversions,
        acts=config.acts,
        prior_shown=day.config.statistics.prior_shown,
        settled=_settled(day, events, shown) if day.is_trained else None,
    )


def _settled(day: Day, events: DataFrame, shown: DataFrame) -> DataFrame:
    """What clicks led to, of as many days as rates are of: the last of which it is known."""
    config, days = day.config.events, day.reads.ranker_conversion_days
    days = day.config.training.conversion_days if days is None else days
    window = day.config.statistics.window_days
    reach = {"as_of": day.run_date, "window_days": None if window is None else window + ceil(days) + 1}
    events = ad_statistics.in_window(events, **reach)  # type: ignore[arg-type]
    asked = {"as_of": day.run_date, "conversions": config.conversions, "days": days}
    if not config.impressions:
        return settled_acts(events, acts=config.acts, **asked)  # type: ignore[arg-type]
    shown = ad_statistics.in_window(shown, **reach)  # type: ignore[arg-type]
    return settled_clicks(shown, events, clicks=config.clicks, **asked)  # type: ignore[arg-type]


def day_exclusions(day: Day, events: DataFrame, shown: DataFrame) -> DataFrame:
    """EXCLUSIONS."""
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


def day_tastes(day: Day, history: DataFrame, catalogue: str) -> DataFrame:
    """TASTES."""
    tasks, clicks = parallel_tasks(day.run.storage.spark), day.config.events.answers
    return tastes.tastes(history, as_of=day.run_date, clicks=clicks, catalogue=catalogue, tasks=tasks)


def day_history_texts(
    day: Day, taste_rows: DataFrame, history: DataFrame, users: DataFrame, texts: DataFrame
) -> DataFrame:
    """Tastes beside what the language model makes of the histories of who is scored."""
    given = day.checked.candidates
    asked = users if given is None else given.select("user_id").distinct()
    with day.run.timed("history_texts"):
        theirs, names = history.join(asked, on="user_id", how="left_semi"), ad_names(texts, fields=day.reads.fields)
        said = day.keep(history_texts(theirs, names, clicks=day.config.events.answers))
        read = day.keep(history_vectors(said, config=day.config, model_folder=day.model.folder))
        day.run.counts["history_texts"] = read.count()
    return taste_rows.join(read, on="user_id", how="left")


def day_backgrounds(day: Day, behaviours: DataFrame, catalogue: str) -> DataFrame:
    """BACKGROUNDS."""
    sample = backgrounds.sample_histories(behaviours, users=day.config.match.background_users)
    sums = backgrounds.block_sums(
        sample, catalogue=catalogue, live_ads=day.run.counts["ads_live"], match=day.config.match
    )
    return backgrounds.backgrounds(day.keep(sums), day.live)


def day_matches(
    day: Day,
    users: DataFrame,
    known: Histories,
    excluded: DataFrame,
    live_figures: pd.DataFrame,
    catalogue: str,
) -> DataFrame:
    """MATCHES, of all live ads or of the candidates given."""
    requests = matches.match_requests(users, known.behaviours, excluded, day.checked.candidates, known.tastes)
    direct = False
    if day.checked.candidates is not None:  # as many c as the pairs need, or the whole table C
        needed = requests.agg(F.sum(F.size("ad_ids") * F.size("candidates")).alias("n")).first()
        behaved = known.behaviours.select(F.explode("ad_ids")).distinct().count()
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
        reranked=known.tastes if day.reads.ranker_reranks else None,
    )


def day_rankings(
    day: Day,
    scored: DataFrame,
    excluded: DataFrame,
    known: Histories,
    live_figures: pd.DataFrame,
    catalogue: str,
) -> DataFrame:
    """RANKINGS."""
    return rankings.rankings(
        rankings.matched_ads(scored, excluded, tasks=shuffle_tasks(day.run.storage.spark)),
        known.behaviours,
        rankings.group_numbers(pd.DataFrame(rankings.ad_groups(day.live).toPandas())),
        live_figures,
        catalogue=catalogue,
        fields=day.config.text.fields,
        match=day.config.match,
        ranking=day.config.ranking,
        value=day.config.value,
        model_version=day.model.version,
        tastes=known.tastes,
    )
