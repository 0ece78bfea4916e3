"""A day, from the company's tables to audited lists: its stages in order, each written and read back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from llmrec_spark import ad_catalogue, impressions, recommendations, sequences
from llmrec_spark.ad_neighbours import ad_neighbours
from llmrec_spark.ads import live_ads
from llmrec_spark.candidates import scored_users
from llmrec_spark.config import Config
from llmrec_spark.daily_catalogue import live_figures, ranker_figures, share_catalogue
from llmrec_spark.daily_inputs import Inputs, check_inputs
from llmrec_spark.daily_stages import (
    Day,
    Histories,
    day_backgrounds,
    day_exclusions,
    day_history_texts,
    day_matches,
    day_rankings,
    day_sequences,
    day_statistics,
    day_tastes,
    day_texts,
)
from llmrec_spark.errors import DataError
from llmrec_spark.events import with_consent
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.runs import Run, say
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
    history = run.stage(SEQUENCES, lambda: day_sequences(day, consented, shown, queries))
    behaved = day.keep(ad_catalogue.behaved_ads(history, skips=day.is_trained))
    used = day.checked.ads.join(day.live.select("ad_id").union(behaved).distinct(), on="ad_id", how="left_semi")
    texts = run.stage(AD_TEXTS, lambda: day_texts(day, used))
    statistics = run.stage(AD_STATISTICS, lambda: day_statistics(day, consented, shown))
    by = day.reads.ranker_neighbours
    neighbours = run.stage(AD_NEIGHBOURS, lambda: ad_neighbours(history, by=by)) if by else None
    excluded = run.stage(EXCLUSIONS, lambda: day_exclusions(day, consented, shown))
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
    taste_rows = run.stage(TASTES, lambda: day_tastes(day, history, catalogue)) if day.is_trained else None
    is_scored = {MATCHES.name, RANKINGS.name} <= set(run.completed)
    if taste_rows is not None and day.reads.ranker_reads_texts and not is_scored:
        taste_rows = day_history_texts(day, taste_rows, history, users, texts)
    behaviours = sequences.histories(
        history, as_of=day.run_date, weights=config.events.weights, half_life_days=config.match.half_life_days
    )
    background_rows = run.stage(BACKGROUNDS, lambda: day_backgrounds(day, behaviours, catalogue))
    figures = live_figures(statistics, background_rows, day.live, pricing=config.value.pricing)
    if day.is_trained:
        run.counts["ads_without_price"] = int(figures["price"].isna().sum())
    known = Histories(behaviours, taste_rows)
    scored = run.stage(MATCHES, lambda: day_matches(day, users, known, excluded, figures, catalogue))
    ranked = run.stage(RANKINGS, lambda: day_rankings(day, scored, excluded, known, figures, catalogue))
    [lists] = recommendations.list_counts(users, ranked, scored, length=config.ranking.max_per_user).collect()
    run.counts |= lists.asDict()
    [found] = recommendations.audit(ranked, day.live, excluded, users, ranking=config.ranking).collect()
    recommendations.refuse_bad_lists(run.run_id, found.asDict(), config.audit)
