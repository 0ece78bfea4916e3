"""A trained model on lists that were held back, beside its simpler parts and the model it is to replace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.held_back import Calibration, Judgement, calibration, judge
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.settings_search import Search
from llmrec_spark.training_ablation import Ablation

if TYPE_CHECKING:
    from llmrec_spark.model.ad_reader import Names
    from llmrec_spark.model.catalogue import Catalogue
    from llmrec_spark.model.taste_training import Trained
    from llmrec_spark.model.training_sample import Sample

RATE, EFFECT, UNTRAINED, CHAMPION, TRAINED = "rate", "effect", "untrained", "champion", "trained"
TASTE, LINEAR, TREES, NETWORK = "taste", "linear", "trees", "network"  # what a reranker adds
STEPS = (
    *((EFFECT, RATE), (TASTE, EFFECT), (LINEAR, TASTE), (TREES, TASTE), (TRAINED, TASTE)),
    *((TRAINED, EFFECT), (TRAINED, RATE), (TRAINED, UNTRAINED), (TRAINED, CHAMPION)),
)


@dataclass(frozen=True)
class Training:
    """What came of one training."""

    training_set: str
    as_of: date
    split: str  # of the lists it is judged on
    sample: Sample
    trained: Trained
    judged: Judgement
    by_segment: Mapping[str, Judgement]
    clicks: Calibration  # in a log without impressions among drawn ads
    rates: Calibration  # of the rates, as if they were probabilities; of nothing in a log without impressions
    conversions: Calibration
    settings: RankerConfig  # that it was trained with
    seconds: Mapping[str, float] = field(default_factory=dict)
    search: Search | None = None  # that chose the settings
    ablation: Ablation | None = None
    run_id: str | None = None  # of MLflow, where the search logged its trials
    checkpoints: tuple[Path, ...] = ()  # of networks, to be removed once the model is kept


def judge_training(
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    sample: Sample,
    trained: Trained,
    *,
    folder: Path,
    columns: pd.DataFrame,
    training_set: str,
    as_of: date,
) -> Training:
    """How `trained` orders the lists of the test, or else of validation, beside rate, effect, match and `base`.

    folder is that of the catalogue of all ads, columns what rankers read of these.
    """
    from llmrec_spark.model.calibration import draw_offset, in_sample

    rows = sample.rows
    split = judged_split(rows)
    held = np.flatnonzero(rows["split"] == split)
    scores = {name: one[held] for name, one in _scores(config, base, folder, columns, sample, trained).items()}
    examples = sample.examples
    clicked, lists, users = examples.clicked[held], examples.list[held], rows["user_id"].to_numpy()[held]
    options: dict[str, Any] = {
        "k": config.evaluation.k,
        "replicates": config.evaluation.replicates,
        "seed": config.evaluation.seed,
    }
    pairs = [pair for pair in STEPS if set(pair) <= set(scores)]
    segments = {}
    for name, chosen in _segments(config, inputs, users):
        few = {scorer: scores[scorer][chosen] for scorer in (RATE, TRAINED)}
        segments[name] = judge(few, clicked[chosen], lists[chosen], users[chosen], pairs=[(TRAINED, RATE)], **options)
    scored, among_drawn = trained.scored, draw_offset(examples, rows["split"] == split)[held]
    p_click = trained.ranker.clicks(scored.log_odds[held], examples.position[held], moved=scored.moved[held])
    known = held[examples.clicked[held] & ~np.isnan(examples.converted[held])]
    shares = held if not examples.were_drawn else held[:0]  # a rate of users is no chance of an act
    return Training(
        training_set,
        as_of,
        split,
        sample,
        trained,
        judged=judge(scores, clicked, lists, users, pairs=pairs, **options),
        by_segment=segments,
        clicks=calibration(in_sample(p_click, among_drawn), clicked),
        rates=calibration(example_rates(config, rows)[shares], examples.clicked[shares]),
        conversions=calibration(trained.bought[known], examples.converted[known] > 0),
        settings=config.ranker,
    )


def judged_split(rows: pd.DataFrame) -> str:
    """Whose lists a model is judged on: the test's, or else validation's, or else those that it learned from."""
    return next((one for one in ("test", "validation") if (rows["split"] == one).any()), "train")


def example_rates(config: Config, rows: pd.DataFrame) -> np.ndarray:
    """As ad_statistics has them, of each example before its day."""
    prior = config.statistics.prior_shown
    shown, clicks = rows["ad_shown"].to_numpy(np.float64), rows["ad_clicks"].to_numpy(np.float64)
    return np.asarray((clicks + prior * rows["mean_rate"].to_numpy(np.float64)) / (shown + prior))


def _scores(
    config: Config, base: ResolvedModel, folder: Path, columns: pd.DataFrame, sample: Sample, trained: Trained
) -> dict[str, np.ndarray]:
    """What each scorer makes of every example; positions are taken out, which a ranker sets itself."""
    from llmrec_spark.model.ad_reader import Names
    from llmrec_spark.model.catalogue import open_catalogue
    from llmrec_spark.model.checkpoint import open_model
    from llmrec_spark.model.example_scores import score_examples
    from llmrec_spark.model.taste_ranker import open_taste_ranker
    from llmrec_spark.model.untrained_examples import untrained_log_odds

    examples, rates = sample.examples, example_rates(config, sample.rows)
    scores = {
        RATE: rates,
        EFFECT: trained.scored.effect,
        UNTRAINED: untrained_log_odds(
            str(folder),
            sample.histories,
            examples.list,
            examples.item,
            rates,
            match=config.match,
            weights=config.events.weights,
        ),
    }
    champion = open_model(base.folder).ranker
    if champion is not None:
        ranker, catalogue = open_taste_ranker(str(champion)), open_catalogue(str(folder))
        names = Names(tuple(ranker.reader.columns), ranker.reader.groups, ranker.reader.neighbours)
        features = ranker.reader.features(catalogue, of_items(columns, names, catalogue))
        found = score_examples(ranker, catalogue, features, examples, sample.before, sample.totals)
        scores[CHAMPION] = found.score
    return {**scores, **trained.scored.steps, TRAINED: trained.scored.score}


def _segments(config: Config, inputs: Inputs, users: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """`column=value` and the rows of its users, for the columns of evaluation.user_columns."""
    names = config.evaluation.user_columns
    if not names or "users" not in inputs.tables:
        return
    spark = inputs.tables["users"].sparkSession
    wanted = spark.createDataFrame(pd.DataFrame({"user_id": np.unique(users.astype(str))}))
    found = inputs.tables["users"].select("user_id", *names).join(F.broadcast(wanted), on="user_id", how="inner")
    of_users = pd.DataFrame(found.toPandas()).drop_duplicates("user_id").set_index("user_id")
    for name in names:
        values = of_users[name].reindex(users).astype("string").fillna("unknown").to_numpy()
        for value in sorted(set(values)):
            yield f"{name}={value}", np.flatnonzero(values == value)


def of_items(columns: pd.DataFrame, names: Names, catalogue: Catalogue) -> np.ndarray:
    """(I, M + G) as catalogue.ad_numbers has them, NaN for queries."""
    from llmrec_spark.model.catalogue import ad_numbers

    numbers = ad_numbers(columns.set_index("ad_id").reindex(catalogue.ad_ids), names.columns, names.groups)
    return np.pad(numbers, ((0, len(catalogue.query_hashes)), (0, 0)), constant_values=np.nan)
