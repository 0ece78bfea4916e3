"""A model learns from the clicks of its company: examples, what is known of the ads, a ranker, how good it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import ad_catalogue, ad_texts, sequences
from llmrec_spark.ads import checked_ads
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.errors import DataError
from llmrec_spark.held_back import Calibration, Judgement, calibration, judge
from llmrec_spark.model_registration import encode_missing
from llmrec_spark.quarantine import accepted
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import TEXT_VECTORS
from llmrec_spark.training_data import fill_training_tables
from llmrec_spark.training_tables import TRAINING_EXAMPLES, TRAINING_HISTORIES

if TYPE_CHECKING:
    from llmrec_spark.model.ad_reader import Names
    from llmrec_spark.model.catalogue import Catalogue
    from llmrec_spark.model.taste_training import Trained
    from llmrec_spark.model.training_sample import Sample

RATE, EFFECT, UNTRAINED, CHAMPION, TRAINED = "rate", "effect", "untrained", "champion", "trained"
STEPS = ((EFFECT, RATE), (TRAINED, EFFECT), (TRAINED, RATE), (TRAINED, UNTRAINED), (TRAINED, CHAMPION))
FEWEST_LISTS = 30  # that training asks for


@dataclass
class Training:
    """What came of one training."""

    training_set: str
    as_of: date
    split: str  # of the lists it is judged on
    sample: Sample
    trained: Trained
    judged: Judgement
    by_segment: Mapping[str, Judgement]
    clicks: Calibration
    rates: Calibration  # of the rates, as if they were probabilities
    conversions: Calibration
    seconds: dict[str, float] = field(default_factory=dict)


def train(
    storage: Storage,
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    *,
    as_of: date,
    until: date | None,
    scratch: Path,
) -> Training:
    """Trains a ranker for the encoder of `base` on the days before `as_of`, and judges it on lists held back.

    `until` is how far labels reach, as in fill_training_tables. Raises DataError where too few lists teach anything.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "training examples"):
        training_set = fill_training_tables(storage, config, inputs, as_of=as_of, until=until)
    of_set = F.col("training_set") == training_set
    examples, histories = (storage.read(one).where(of_set) for one in (TRAINING_EXAMPLES, TRAINING_HISTORIES))
    ads = accepted(checked_ads(inputs.tables["ads"]))
    with _timed(seconds, "catalogue of ads"):
        folder = _catalogue(storage, config, inputs, base, ads, histories, scratch)
        columns = pd.DataFrame(ad_catalogue.ad_columns(ads, *_columns(config, base)).toPandas())
    with _timed(seconds, "ranker"):
        sample, trained = _learned(config, folder, columns, examples.inputFiles(), histories.inputFiles())
    with _timed(seconds, "judgement"):
        training = _judged(config, inputs, base, folder, columns, sample, trained, training_set, as_of)
    training.seconds |= seconds
    return training


def _catalogue(
    storage: Storage,
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    ads: DataFrame,
    histories: DataFrame,
    scratch: Path,
) -> Path:
    """The folder of every ad and every query of a history, encoded."""
    from llmrec_spark.model.checkpoint import open_model

    model = open_model(base.folder).config
    asked = sequences.queries(inputs.tables["events"], searches=config.events.searches)
    recent = sequences.recent_queries(histories, max_queries=config.sequences.max_queries)
    asked = asked.join(recent, on="query_hash", how="left_semi").dropDuplicates(["query_hash"]).persist()
    fields = ad_texts.field_texts(ads, fields=config.text.fields, max_characters=config.text.max_characters)
    texts = ad_texts.ad_texts(fields).persist()
    encode_missing(
        storage,
        config,
        texts.select("text_hash", "text").union(asked.select("query_hash", "text")),
        encoder=base.folder,
        golden=True,
        settings=model.encoder,
        digest=model.encoder_digest,
    )
    folder = scratch / "catalogue"
    ad_catalogue.write_catalogue(
        folder,
        model_folder=base.folder,
        ad_texts=texts,
        queries=asked,
        text_vectors=storage.read(TEXT_VECTORS).where(F.col("encoder_digest") == model.encoder_digest),
        live=ads,
        behaved=ads,
        fields=model.fields,
    )
    for rows in (asked, texts):
        rows.unpersist()
    return folder


def _learned(
    config: Config, folder: Path, columns: pd.DataFrame, example_files: list[str], history_files: list[str]
) -> tuple[Sample, Trained]:
    from llmrec_spark.model.ad_reader import Names
    from llmrec_spark.model.catalogue import open_catalogue
    from llmrec_spark.model.taste_training import train_taste_ranker
    from llmrec_spark.model.training_sample import read_sample

    catalogue, ranker = open_catalogue(str(folder)), config.ranker
    sample = read_sample(
        sorted(example_files),
        sorted(history_files),
        pd.Index(catalogue.ad_ids),
        size=len(catalogue.fields),
        answers=config.events.answers,
        max_lists=ranker.max_lists,
        positions=ranker.positions,
    )
    lists = sample.rows.loc[sample.examples.trains].drop_duplicates(["run_date", "user_id", "list_id"])
    if len(lists) < FEWEST_LISTS or not sample.examples.clicked[sample.examples.trains].any():
        raise DataError(
            f"training: {len(lists)} lists train, {int(sample.totals.clicks.sum())} ads of them were clicked; expected "
            f"{FEWEST_LISTS} lists or more, and clicks. Give more days (training.train_days) or another --date."
        )
    names, fields = Names(ranker.columns, ranker.groups), tuple(config.text.fields)
    numbers = _of_items(columns, names, catalogue)
    trained = train_taste_ranker(
        catalogue, fields, numbers, names, sample.examples, sample.before, sample.totals, config.ranker
    )
    return sample, trained


def _columns(config: Config, base: ResolvedModel) -> tuple[list[str], list[str]]:
    """Numbers and words of ads that the new ranker or the one of `base` reads."""
    from llmrec_spark.model.checkpoint import open_model

    read = open_model(base.folder).config
    numbers = {*config.ranker.columns, *(read.ranker_columns or ())}
    return sorted(numbers), sorted({*config.ranker.groups, *read.ranker_groups} - numbers)


def _of_items(columns: pd.DataFrame, names: Names, catalogue: Catalogue) -> np.ndarray:
    """(I, M + G) as catalogue.ad_numbers has them, NaN for queries."""
    from llmrec_spark.model.catalogue import ad_numbers

    numbers = ad_numbers(columns.set_index("ad_id").reindex(catalogue.ad_ids), names.columns, names.groups)
    return np.pad(numbers, ((0, len(catalogue.query_hashes)), (0, 0)), constant_values=np.nan)


def _judged(
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    folder: Path,
    columns: pd.DataFrame,
    sample: Sample,
    trained: Trained,
    training_set: str,
    as_of: date,
) -> Training:
    rows = sample.rows
    split = next((one for one in ("test", "validation") if (rows["split"] == one).any()), "train")
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
    p_click = trained.ranker.clicks(trained.scored.log_odds[held], examples.position[held])
    known = held[examples.clicked[held] & ~np.isnan(examples.converted[held])]
    return Training(
        training_set,
        as_of,
        split,
        sample,
        trained,
        judged=judge(scores, clicked, lists, users, pairs=pairs, **options),
        by_segment=segments,
        clicks=calibration(p_click, clicked),
        rates=calibration(_rates(config, rows)[held], clicked),
        conversions=calibration(trained.bought[known], examples.converted[known] > 0),
    )


def _rates(config: Config, rows: pd.DataFrame) -> np.ndarray:
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
    from llmrec_spark.model.taste_ranker import open_taste_ranker
    from llmrec_spark.model.taste_training import score_examples
    from llmrec_spark.model.untrained_examples import untrained_log_odds

    examples, rates = sample.examples, _rates(config, sample.rows)
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
        names = Names(tuple(ranker.reader.columns), ranker.reader.groups)
        features = ranker.reader.features(catalogue, _of_items(columns, names, catalogue))
        found = score_examples(ranker, features, examples, sample.before, sample.totals)
        scores[CHAMPION] = found.effect + found.taste
    return scores | {TRAINED: trained.scored.effect + trained.scored.taste}


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


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 1)
    say(f"{name:<20} {seconds[name]:>8.1f} s")
