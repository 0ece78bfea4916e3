"""How well a trained ranker orders the lists of validation: what a search of settings goes by. On arrays."""

from __future__ import annotations

import numpy as np
import torch

from llmrec_spark.metrics import ranking_metrics
from llmrec_spark.model.example_scores import list_offset
from llmrec_spark.model.linear_ranker import fit_linear_ranker
from llmrec_spark.model.rerank_training import STACK_PENALTY
from llmrec_spark.model.taste_gp import padded, place_within
from llmrec_spark.model.taste_training import Trained
from llmrec_spark.model.training_sample import Examples, ShownBefore

HALVES = 2


def without_test(examples: Examples, before: ShownBefore) -> tuple[Examples, ShownBefore]:
    """The lists that train or validate, numbered anew, and what was shown before each: no row of the test is left."""
    kept = examples.trains | examples.calibrates
    lists, number = np.unique(examples.list[kept], return_inverse=True)
    starts, lengths = before.offsets[lists], np.diff(before.offsets)[lists]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    columns = {name: one[kept] for name, one in examples._asdict().items()}
    shown = {name: one[rows] for name, one in before._asdict().items() if name not in ("offsets", "texts")}
    texts = None if before.texts is None else before.texts[lists]
    return Examples(**columns | {"list": number}), ShownBefore(**shown, offsets=offsets, texts=texts)


def validating_lists(examples: Examples) -> np.ndarray:
    """(n,) bool: rows of the validation lists with a click and without one, the only ones that an order matters for."""
    sizes = np.bincount(examples.list)
    clicks = np.bincount(examples.list, examples.clicked)
    return np.asarray(examples.calibrates & ((clicks > 0) & (clicks < sizes))[examples.list])


def validation_ndcg(trained: Trained, examples: Examples, *, k: int) -> float:
    """The mean nDCG@k of validating_lists; NaN where there are none.

    What the parts of a reranker weigh is learned from validation too, so each half of the people is scored by the
    weights of the other half. A network also stops by these lists, which flatters it a little.
    """
    held = np.flatnonzero(validating_lists(examples))
    if not len(held):
        return float("nan")
    sizes = np.unique(examples.list[held], return_counts=True)[1]
    found = ranking_metrics(_crossed(trained, examples, held), examples.clicked[held], sizes, k=k)
    return float(found["ndcg"].mean())


def _crossed(trained: Trained, examples: Examples, held: np.ndarray) -> np.ndarray:
    """The score of the rows `held`, the weights of a reranker's parts being those of other people."""
    if not trained.scored.steps:
        return np.asarray(trained.scored.score[held])
    table = np.column_stack(list(trained.scored.steps.values()))[held]
    place = list_offset(trained.ranker, examples)[held]
    half = examples.user[held] % HALVES
    scores = np.empty(len(held))
    for one in range(HALVES):
        weights = _stack(table[half != one], examples, held[half != one], place[half != one])
        scores[half == one] = table[half == one] @ weights
    return scores


def _stack(table: np.ndarray, examples: Examples, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(S,) what each of the scores table (n, S) weighs by the clicks of `rows` (n,); alike where there are none."""
    owner = np.unique(examples.list[rows], return_inverse=True)[1]
    lists = int(owner.max(initial=-1)) + 1
    present, clicked, offset = padded(
        owner, lists, (np.ones(len(rows), dtype=bool), examples.clicked[rows], place.astype(np.float32)), (0, 0, 0.0)
    )
    values = torch.zeros(*present.shape, table.shape[1])
    values[owner, place_within(owner)] = torch.as_tensor(table).float()
    found = fit_linear_ranker(values, clicked, present, offset=offset, penalty=STACK_PENALTY)
    weights = found.weights if found.weights.any() else np.ones(len(found.weights))
    return np.asarray(weights / found.spread)
