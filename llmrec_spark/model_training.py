"""A model learns from the clicks of its company: a ranker trained, judged, and asked what its parts bring."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.distributed_training import NetworkLearner
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.settings_search import Budget
from llmrec_spark.storage import Storage
from llmrec_spark.training_ablation import ablate
from llmrec_spark.training_cost import measured
from llmrec_spark.training_judgement import Training, judge_training
from llmrec_spark.training_material import read_material, timed
from llmrec_spark.training_search import search_settings


def train(
    storage: Storage,
    config: Config,
    inputs: Inputs,
    base: ResolvedModel,
    *,
    as_of: date,
    until: date | None,
    scratch: Path,
    budget: Budget | None = None,
    ablates: bool = False,
) -> Training:
    """Trains a ranker for the encoder of `base` on the days before `as_of`, and judges it on lists held back.

    `until` is how far labels reach, as in fill_training_tables; `budget` that of a search of settings before;
    `ablates` asks what each part brings. Raises DataError where too few lists teach anything.
    """
    learner = NetworkLearner(storage.spark, scratch)
    learner.check(config.ranker)
    seconds: dict[str, float] = {}
    tried = (config.ranker.rerank, *(() if budget is None else config.search.rerank))
    rankers = [config.ranker.model_copy(update={"rerank": one}) for one in tried]
    read = partial(read_material, storage, config, inputs, base, as_of=as_of, until=until)
    given = read(scratch=scratch, seconds=seconds, rankers=rankers)
    sample, search, run = given.sample, None, None
    learn = partial(given.train, learner)
    if budget is not None:
        with timed(seconds, "search"):
            search, run = search_settings(config, base, sample, learn, training_set=given.training_set, budget=budget)
        config = config.model_copy(update={"ranker": search.settings})
    with timed(seconds, "ranker"), measured() as cost:
        trained = learn(config.ranker, sample.examples, sample.before)
    with timed(seconds, "judgement"):
        training = judge_training(
            config,
            inputs,
            base,
            sample,
            trained,
            folder=given.folder,
            columns=given.columns,
            training_set=given.training_set,
            as_of=as_of,
        )
    ablation = None
    if ablates:
        with timed(seconds, "ablation"):
            anew = partial(given.train, replace(learner, resumes=False))  # what each training costs is asked too
            ablation = ablate(config, sample, training.split, (trained, cost), anew)
    checkpoints = tuple(sorted(learner.checkpoints))
    return replace(training, seconds=seconds, search=search, ablation=ablation, run_id=run, checkpoints=checkpoints)
