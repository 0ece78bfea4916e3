"""What every training reads: its examples, every ad encoded, the lists that are held in memory."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import ad_catalogue, ad_texts, sequences
from llmrec_spark.accepted_log import once
from llmrec_spark.ads import checked_ads
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.errors import DataError, ModelError
from llmrec_spark.history_texts import ad_names, texts_of_lists
from llmrec_spark.model_registration import encode_missing
from llmrec_spark.quarantine import accepted
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_NEIGHBOURS, TEXT_VECTORS
from llmrec_spark.training_data import fill_training_tables, neighbours_before
from llmrec_spark.training_histories import KEY
from llmrec_spark.training_judgement import of_items
from llmrec_spark.training_tables import TRAINING_EXAMPLES, TRAINING_HISTORIES

if TYPE_CHECKING:
    from llmrec_spark.model.catalogue import Catalogue
    from llmrec_spark.model.network_training import LearnNetwork
    from llmrec_spark.model.taste_training import Trained
    from llmrec_spark.model.training_sample import Examples, Sample, ShownBefore

FEWEST_LISTS = 30  # that training asks for


def read_material(
    storage: Storage,
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    *,
    as_of: date,
    until: date | None,
    scratch: Path,
    seconds: dict[str, float],
    rankers: Sequence[RankerConfig] = (),
) -> Material:
    """Fills the training tables, encodes the ads as `base` does, reads the lists; `seconds` gets what each took.

    `until` as in fill_training_tables; `rankers` are the settings that may be trained: neighbours are found where there
    are any, texts of histories encoded where one of them, or the ranker of `base`, reads them. Raises DataError where
    too few lists teach anything.
    """
    from llmrec_spark.model.checkpoint import open_model

    by = _neighbours_by(config, base) if rankers else None
    with timed(seconds, "training examples"):
        training_set = fill_training_tables(storage, config, inputs, as_of=as_of, until=until)
    of_set = F.col("training_set") == training_set
    examples, histories = (storage.read(one).where(of_set) for one in (TRAINING_EXAMPLES, TRAINING_HISTORIES))
    ads = accepted(checked_ads(inputs.tables["ads"]))
    with timed(seconds, "catalogue of ads"):
        folder = scratch / "catalogue"
        near = None if by is None else _neighbours(config, inputs, as_of, by)
        write_catalogue(storage, config, inputs, base, ads, histories, folder, near)
        columns = pd.DataFrame(ad_catalogue.ad_columns(ads, *_columns(config, base)).toPandas())
    with timed(seconds, "lists in memory"):
        material = _material(config, training_set, folder, columns, examples, histories)
    reads_texts = open_model(base.folder).config.ranker_reads_texts or any(one.reads_texts for one in rankers)
    if rankers and reads_texts:
        with timed(seconds, "texts of histories"):
            material = _with_texts(material, config, base, ads)
    return material


def write_catalogue(
    storage: Storage,
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    ads: DataFrame,
    histories: DataFrame,
    folder: Path,
    neighbours: DataFrame | None = None,
) -> None:
    """Writes the catalogue of every ad and every query of a history, encoded as `base` does, into a new folder."""
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
    ad_catalogue.write_catalogue(
        folder,
        model_folder=base.folder,
        ad_texts=texts,
        queries=asked,
        text_vectors=storage.read(TEXT_VECTORS).where(F.col("encoder_digest") == model.encoder_digest),
        live=ads,
        behaved=ads,
        fields=model.fields,
        neighbours=neighbours,
    )
    for rows in (asked, texts):
        rows.unpersist()


@dataclass(frozen=True)
class Material:
    """What is read once for every ranker that is trained on it."""

    training_set: str
    folder: Path  # of the catalogue
    catalogue: Catalogue
    fields: tuple[str, ...]
    columns: pd.DataFrame  # of ads, that rankers read
    sample: Sample
    histories: DataFrame  # of the training set

    def train(
        self,
        learn: LearnNetwork,
        settings: RankerConfig,
        examples: Examples,
        before: ShownBefore,
        without: Collection[str] = (),
    ) -> Trained:
        """A ranker that learned from the examples that train, all of the sample's or some lists of it.

        `learn` learns a network, where settings ask for one.
        """
        from llmrec_spark.model.ad_reader import Names
        from llmrec_spark.model.taste_training import train_taste_ranker

        names = Names(settings.columns, settings.groups, settings.neighbours)
        numbers = of_items(self.columns, names, self.catalogue)
        given = (self.catalogue, self.fields, numbers, names, examples, before, self.sample.totals, settings)
        return train_taste_ranker(*given, without, learn)


def _material(
    config: Config,
    training_set: str,
    folder: Path,
    columns: pd.DataFrame,
    examples: DataFrame,
    histories: DataFrame,
) -> Material:
    from llmrec_spark.model.catalogue import open_catalogue
    from llmrec_spark.model.training_sample import read_sample, with_text

    catalogue, ranker = open_catalogue(str(folder)), config.ranker
    sample = read_sample(
        sorted(examples.inputFiles()),
        sorted(histories.inputFiles()),
        pd.Index(catalogue.ad_ids),
        size=len(catalogue.fields),
        answers=config.events.answers,
        max_lists=ranker.max_lists,
        positions=ranker.positions,
    )
    has_text = np.max(catalogue.fields, axis=1) >= 0
    sample = sample._replace(before=with_text(sample.before, has_text))
    lists = sample.rows.loc[sample.examples.trains].drop_duplicates(["run_date", "user_id", "list_id"])
    if len(lists) < FEWEST_LISTS or not sample.examples.clicked[sample.examples.trains].any():
        raise DataError(
            f"training: {len(lists)} lists train, {int(sample.totals.clicks.sum())} ads of them were clicked; expected "
            f"{FEWEST_LISTS} lists or more, and clicks. Give more days (training.train_days) or another --date."
        )
    return Material(training_set, folder, catalogue, tuple(config.text.fields), columns, sample, histories)


def _with_texts(material: Material, config: Config, base: ResolvedModel, ads: DataFrame) -> Material:
    """With what the language model makes of the history of each list."""
    fields = ad_texts.field_texts(ads, fields=material.fields, max_characters=config.text.max_characters)
    names, sample = ad_names(ad_texts.ad_texts(fields), fields=material.fields), material.sample
    texts = texts_of_lists(material.histories, names, sample.histories, config=config, model_folder=base.folder, by=KEY)
    return replace(material, sample=sample._replace(before=sample.before._replace(texts=texts)))


def _neighbours_by(config: Config, base: ResolvedModel) -> str | None:
    """How the new ranker or the one of `base` finds neighbours, None where neither reads any.

    Raises ModelError where they do so in two ways.
    """
    from llmrec_spark.model.checkpoint import open_model

    asked, known = config.ranker.neighbours, open_model(base.folder).config.ranker_neighbours
    if asked and known and asked != known:
        raise ModelError(
            f"model {base.version}: reads neighbours by {known}, ranker.neighbours is {asked}; expected one way, since "
            f"both are judged on one catalogue. Give --model a version that reads none, or set it to {known}."
        )
    return asked or known


def _neighbours(config: Config, inputs: Inputs, as_of: date, by: str) -> DataFrame:
    """AD_NEIGHBOURS before the first day of the examples, none of which they know.

    Raises DataError where no ad has a neighbour by then.
    """
    first = config.training.days(as_of)[0]
    found = once(neighbours_before(inputs, config, first, by=by))
    count = found.count()
    say(f"{AD_NEIGHBOURS.name:<16} {count:>10,} rows   of histories before {first}")
    if not count:
        raise DataError(
            f"ranker.neighbours: before {first}, the first day of training, no two ads were acted on by the same "
            "people; expected a log that is older. Lower training.train_days, or set ranker.neighbours to null."
        )
    return found


def _columns(config: Config, base: ResolvedModel) -> tuple[list[str], list[str]]:
    """Numbers and words of ads that the new ranker or the one of `base` reads."""
    from llmrec_spark.model.checkpoint import open_model

    read = open_model(base.folder).config
    numbers = {*config.ranker.columns, *(read.ranker_columns or ())}
    return sorted(numbers), sorted({*config.ranker.groups, *read.ranker_groups} - numbers)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Puts into `seconds` what the block takes, and says it."""
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 1)
    say(f"{name:<20} {seconds[name]:>8.1f} s")
