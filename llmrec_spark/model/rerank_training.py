"""Lists of examples with their tastes -> a Reranker: features, rankers on them, and what each weighs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.example_scores import Tasted, list_features, list_offset, network_additions, network_batch
from llmrec_spark.model.linear_ranker import fit_linear_ranker
from llmrec_spark.model.network_batches import AdTable
from llmrec_spark.model.network_training import LearnNetwork, NetworkTask
from llmrec_spark.model.pair_features import compared_kernels, feature_names
from llmrec_spark.model.pair_kernels import ItemFeatures
from llmrec_spark.model.reranker import LINEAR, NETWORK, TREES, Reranker
from llmrec_spark.model.taste_gp import Level, PaddedHistories, PaddedLists
from llmrec_spark.model.taste_ranker import TasteRanker
from llmrec_spark.model.training_sample import Examples
from llmrec_spark.model.tree_ranker import fit_tree_ranker
from llmrec_spark.ranker_config import RankerConfig

STACK_PENALTY = 0.002  # of the weights, in standard deviations of the scores


def learn_reranker(
    ranker: TasteRanker,
    given: Tasted,
    features: ItemFeatures,
    table: AdTable,
    examples: Examples,
    settings: RankerConfig,
    learn: LearnNetwork,
) -> Reranker:
    """LINEAR, TREES, NETWORK as settings.rerank says, from the lists that train; what each weighs from those held back.

    What the position of an ad adds, or its draw, is taken out. Without lists held back, all scores weigh alike.
    """
    lists = given.lists
    place = torch.zeros_like(lists.offset)
    place[given.at] = torch.as_tensor(list_offset(ranker, examples)).float()
    kernels = tuple(features.names[number] for number in compared_kernels(features.names))
    names = feature_names(kernels, tuple(features.slopes))
    learns = teaching_lists(examples.list[examples.trains], lists, given.histories)
    ours, clicked, moved = (lists.item >= 0)[learns], lists.clicked[learns], place[learns]
    reads_pairs = bool({LINEAR, TREES} & set(settings.rerank))
    values = _features_of(given, learns, features, ranker.level, names) if reads_pairs else None
    linear, trees = None, None
    if values is not None and LINEAR in settings.rerank:
        linear = fit_linear_ranker(values, clicked, ours, offset=moved)
    if values is not None and TREES in settings.rerank:
        trees = fit_tree_ranker(
            values[ours].numpy(),
            clicked[ours].numpy(),
            ours.sum(dim=1).numpy(),
            names=names,
            seed=settings.seed,
            offset=moved[ours].double().numpy(),
        )
    del values  # the largest array of a training, and those who judge are read anew
    weighs = teaching_lists(examples.list[examples.calibrates], lists, given.histories)
    network = None
    if NETWORK in settings.rerank:
        task = NetworkTask(
            network_batch(ranker, given, examples, settings.network, text_width=table.vectors.shape[1]),
            table,
            settings.network,
            settings.learning,
            learns=torch.as_tensor(np.unique(examples.list[examples.trains])),
            judges=weighs,
        )
        network = learn(task).network
    added = network_additions(network, ranker, given, examples, table)
    found = Reranker(kernels, tuple(features.slopes), {}, linear, trees, network)
    judges = weighs if len(weighs) else learns
    shown = (lists.item >= 0)[judges]
    of_network = None if added is None else added[judges][shown].double().numpy()
    asked = _features_of(given, judges, features, ranker.level, names)
    scores = found.scores(given.first[judges][shown].numpy(), asked[shown].numpy(), of_network)
    stacked = torch.zeros(*shown.shape, len(scores))
    stacked[shown] = torch.as_tensor(np.column_stack(list(scores.values()))).float()
    stack = fit_linear_ranker(stacked, lists.clicked[judges], shown, offset=place[judges], penalty=STACK_PENALTY)
    weights = stack.weights if len(weighs) and stack.weights.any() else np.ones(len(scores))
    return replace(found, weights=dict(zip(scores, (weights / stack.spread).tolist(), strict=True)))


def _features_of(given: Tasted, chosen: Tensor, features: ItemFeatures, level: Level, names: tuple[str, ...]) -> Tensor:
    """(n, C, P) of the lists `chosen` (n,)."""
    histories, lists = given.histories.part(chosen), given.lists.part(chosen)
    part = given._replace(histories=histories, lists=lists, taste=given.taste[chosen.numpy()])
    found = list(list_features(part, features, level))
    return torch.cat(found) if found else torch.zeros(0, lists.item.shape[1], len(names))


def teaching_lists(chosen: np.ndarray, lists: PaddedLists, histories: PaddedHistories) -> Tensor:
    """Of the lists `chosen`, those that teach: clicked and unclicked ads, something known of the user."""
    allowed = torch.zeros(len(lists.item), dtype=torch.bool)
    allowed[torch.as_tensor(chosen)] = True
    present = lists.item >= 0
    mixed = (lists.clicked & present).any(dim=1) & (~lists.clicked & present).any(dim=1)
    known = (histories.item >= 0).any(dim=1)
    return (mixed & known & allowed).nonzero()[:, 0]
