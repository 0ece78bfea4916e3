"""An encoder adapted to the clicks of its company: pairs, an adapter, a model of the ads as it reads them, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from llmrec_spark import ad_texts
from llmrec_spark.ads import checked_ads
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs, read_inputs
from llmrec_spark.daily_runs import check_fields
from llmrec_spark.errors import DataError, ModelError
from llmrec_spark.held_back import Judgement, judge
from llmrec_spark.model_registration import write_model_of_ads
from llmrec_spark.quarantine import accepted
from llmrec_spark.registry import NAME, Lesson, ResolvedModel, register_model
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage
from llmrec_spark.training_judgement import RATE, example_rates, judged_split
from llmrec_spark.training_material import Material, read_material, timed, write_catalogue
from llmrec_spark.training_plots import loss_plot

BASE, ADAPTED = "base", "adapted"
STEPS = ((ADAPTED, BASE), (ADAPTED, RATE), (BASE, RATE))
FEWEST_PAIRS = 32


@dataclass(frozen=True)
class Adaptation:
    """What came of one adaptation."""

    pairs: int
    losses: Sequence[float]  # of each step
    split: str  # of the lists it is judged on
    judged: Judgement  # the untrained score by the encoder as it was and as it is, and the rate
    facts: Mapping[str, object]  # of the model


def adapt_and_register(
    storage: Storage,
    config: Config,
    base: ResolvedModel,
    *,
    as_of: date,
    until: date | None,
    scratch: Path,
    folder: Path,
    aliases: tuple[str, ...],
) -> str:
    """Adapts the encoder of `base` to the clicks of the days before `as_of`, as config.adapter says.

    The model of it, which is not trained, is written to `folder` and registered. Returns the version. Raises DataError
    where too few clicks teach anything, ModelError where `base` has an adapter already.
    """
    from llmrec_spark.model.checkpoint import refuse_existing
    from llmrec_spark.model.training_checkpoint import remove_checkpoints

    refuse_existing(folder)
    seconds: dict[str, float] = {}
    inputs = read_inputs(storage, config)
    adaptation = adapt(
        storage, config, inputs, base, as_of=as_of, until=until, scratch=scratch, folder=folder, seconds=seconds
    )
    facts = {
        **adaptation.facts,
        "adapted_at": as_of,
        "adapted_from": base.version,
        "pairs": adaptation.pairs,
        "judged_on": adaptation.split,
        **{f"adapter.{name}": value for name, value in config.adapter.model_dump(exclude={"folder"}).items()},
        **{f"input.{name}": version for name, version in inputs.versions.items()},
    }
    lines = summary(adaptation, config.evaluation.k)
    plots = {"loss.png": loss_plot(adaptation.losses, "InfoNCE", "Loss of the adapter")}
    card = "\n".join(["# An adapted encoder", "", *lines])
    lesson = Lesson(_numbers(adaptation, seconds), adaptation.losses, card, plots)
    version = register_model(folder, config.mlflow, facts, aliases=aliases, job="adapt_encoder", lesson=lesson)
    if config.adapter.folder is not None:
        remove_checkpoints(Path(config.adapter.folder))
    for line in lines:
        say(line)
    say(f"registered {NAME} version {version}, adapted from model {base.version}, alias {' '.join(aliases) or 'none'}")
    return version


def adapt(
    storage: Storage,
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    *,
    as_of: date,
    until: date | None,
    scratch: Path,
    folder: Path,
    seconds: dict[str, float],
) -> Adaptation:
    """Learns, writes the model to `folder`, judges both encoders on lists held back; `seconds` gets what each took."""
    import torch

    from llmrec_spark.model.adapter_training import adapt_encoder, contrastive_pairs
    from llmrec_spark.model.encoder_adapter import is_adapted

    reads = check_fields(base, config)
    if is_adapted(base.folder / "encoder"):
        raise ModelError(
            f"model {base.version}: its encoder has an adapter already, expected none. Give the version it was adapted "
            "from as --model."
        )
    given = read_material(storage, config, inputs, base, as_of=as_of, until=until, scratch=scratch, seconds=seconds)
    texts = _texts(config, inputs, given)
    pairs = contrastive_pairs(
        given.sample.examples,
        given.sample.before,
        np.array([len(one) > 0 for one in texts]),
        most=config.adapter.pairs,
        seed=config.adapter.seed,
    )
    if len(pairs.ad) < FEWEST_PAIRS:
        raise DataError(
            f"adapter: {len(pairs.ad)} clicks follow another click of their user; expected {FEWEST_PAIRS} or more. "
            "Give more days (training.train_days) or another --date."
        )
    encoder, device = scratch / "adapted", "cuda" if torch.cuda.is_available() else "cpu"
    with timed(seconds, "adapter"):
        losses = adapt_encoder(
            encoder,
            base.folder / "encoder",
            reads.encoder,
            pairs,
            texts,
            config.adapter,
            device=device,
            tell=say,
        )
    with timed(seconds, "model of the ads"):
        facts = write_model_of_ads(
            storage,
            config,
            encoder=encoder,
            settings=reads.encoder,
            name=f"{reads.name}, {config.adapter.kind}",
            folder=folder,
            base=base.uri if config.adapter.kind != "full" else None,
        )
    with timed(seconds, "judgement"):
        split, judged = _judged(storage, config, inputs, given, ResolvedModel(folder, ADAPTED, ""), scratch / "after")
    return Adaptation(len(pairs.ad), losses, split, judged, facts)


def _texts(config: Config, inputs: Inputs, given: Material) -> list[list[str]]:
    """What is read of each item, in order of its fields; nothing of a query. On the driver, as the ads of a day."""
    ads = accepted(checked_ads(inputs.tables["ads"]))
    fields = ad_texts.field_texts(ads, fields=config.text.fields, max_characters=config.text.max_characters)
    rows = pd.DataFrame(ad_texts.ad_texts(fields).select("ad_id", "field", "text").toPandas())
    rows = rows.assign(place=rows["field"].map({name: i for i, name in enumerate(config.text.fields)}))
    of_ads = rows.sort_values(["ad_id", "place"]).groupby("ad_id")["text"].agg(list).to_dict()
    queries = len(given.catalogue.query_hashes)
    return [of_ads.get(ad, []) for ad in given.catalogue.ad_ids] + [[] for _ in range(queries)]


def _judged(
    storage: Storage, config: Config, inputs: Inputs, given: Material, adapted: ResolvedModel, folder: Path
) -> tuple[str, Judgement]:
    """The untrained score of the lists held back by either encoder, beside the rate."""
    from llmrec_spark.model.untrained_examples import untrained_log_odds

    sample, examples, rows = given.sample, given.sample.examples, given.sample.rows
    split = judged_split(rows)
    held, rates = np.flatnonzero(rows["split"] == split), example_rates(config, rows)
    ads = accepted(checked_ads(inputs.tables["ads"]))
    write_catalogue(storage, config, inputs, adapted, ads, given.histories, folder)
    scores = {RATE: rates[held]}
    for name, catalogue in ((BASE, given.folder), (ADAPTED, folder)):
        scores[name] = untrained_log_odds(
            str(catalogue),
            sample.histories,
            examples.list[held],
            examples.item[held],
            rates[held],
            match=config.match,
            weights=config.events.weights,
        )
    judged = judge(
        scores,
        examples.clicked[held],
        examples.list[held],
        rows["user_id"].to_numpy()[held],
        pairs=STEPS,
        k=config.evaluation.k,
        replicates=config.evaluation.replicates,
        seed=config.evaluation.seed,
    )
    return split, judged


def summary(adaptation: Adaptation, k: int) -> list[str]:
    """What came of it, in lines."""
    judged = adaptation.judged
    lines = [
        f"{adaptation.pairs:,} pairs, loss {np.mean(adaptation.losses[:10]):.3f} in the first steps, "
        f"{np.mean(adaptation.losses[-10:]):.3f} in the last",
        f"the untrained score on {judged.lists:,} lists of {adaptation.split} with and without a click, "
        f"{judged.users:,} people:",
    ]
    for name, of_scorer in judged.values.items():
        lines.append(f"{name}: nDCG@{k} {of_scorer['ndcg'].value:.4f}, group AUC {of_scorer['group_auc'].value:.4f}")
    lines += [f"{one} - {other}: nDCG@{k} {found['ndcg']}" for (one, other), found in judged.differences.items()]
    return lines


def _numbers(adaptation: Adaptation, seconds: Mapping[str, float]) -> dict[str, float]:
    found = {f"{name}_seconds": value for name, value in seconds.items()}
    for scorer, of_scorer in adaptation.judged.values.items():
        found |= {f"{scorer}.{metric}": one.value for metric, one in of_scorer.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}
