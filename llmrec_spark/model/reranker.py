"""Rankers of the best ads of a taste, on features of a user and an ad, and what each weighs in their sum.

    score = w_taste (effect + taste) + w_linear linear(x) + w_trees trees(x) + w_network network(history, ad)

with x of pair_features; the network says what it adds to effect + taste.

A stack (Wolpert, "Stacked generalization", Neural Networks 5, 1992): the weights are those of a list-wise linear ranker
on lists held back. The parts of the linear ranker and of the taste are exact by behaviour and kernel, those of the
trees are TreeSHAP's by feature, those of the network what is lost without a behaviour; all of them add up to the score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from llmrec_spark.errors import ModelError
from llmrec_spark.model.linear_ranker import LinearRanker
from llmrec_spark.model.pair_features import EFFECT, PARTS, SINGLE, TASTE, behaviour_parts, feature_names
from llmrec_spark.model.ranking_network import RankingNetwork, load_network, save_network
from llmrec_spark.model.tree_ranker import TreeRanker

LINEAR, TREES, NETWORK = "linear", "trees", "network"
FILE, LINEAR_FILE, TREES_FILE = "reranker.json", "linear.safetensors", "trees.txt"  # trees as LightGBM's own text


class ScoreTerms(NamedTuple):
    """A score of one user's K ads taken apart; what is missing from it is the same for all ads."""

    behaviours: np.ndarray  # (T, F, K) by impression and kernel, beside the taste's own
    taste: np.ndarray  # (K,) what the taste's own terms are multiplied by
    features: Mapping[str, np.ndarray]  # (K,) by what no single behaviour is the reason of


@dataclass(frozen=True)
class Reranker:
    """What training chose; `weights` names the scores that it adds: TASTE and any of LINEAR, TREES and NETWORK."""

    kernels: tuple[str, ...]  # the F compared
    columns: tuple[str, ...]
    weights: Mapping[str, float]
    linear: LinearRanker | None = None
    trees: TreeRanker | None = None
    network: RankingNetwork | None = None

    def scores(self, first: np.ndarray, features: np.ndarray, added: np.ndarray | None) -> dict[str, np.ndarray]:
        """Each score by name, (n,), of effect + taste `first` (n,), features (n, P), what the network adds (n,)."""
        found = {TASTE: first}
        if self.linear is not None:
            found[LINEAR] = self.linear.score(features)
        if self.trees is not None:
            found[TREES] = self.trees.score(features)
        if added is not None:
            found[NETWORK] = added
        return found

    def together(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) their weighted sum, of every score by name (n,)."""
        return np.asarray(sum(self.weights[name] * one for name, one in scores.items()))

    def terms(
        self, effect: np.ndarray, features: np.ndarray, stack: np.ndarray, residual: np.ndarray, clicked: np.ndarray
    ) -> ScoreTerms:
        """The score of one user's K ads by its reasons, without the network's.

        effect (K,), features (K, P), stack (F, T, K) of the kernels compared, residual and clicked (T,)
        """
        shape = (len(effect), len(PARTS), len(self.kernels))
        history = slice(len(SINGLE), len(SINGLE) + shape[1] * shape[2])
        at_effect, at_taste = SINGLE.index(EFFECT), SINGLE.index(TASTE)
        behaviours = np.zeros((len(residual), shape[2], shape[0]))
        of_taste = np.full(len(effect), self.weights[TASTE])
        named = {EFFECT: self.weights[TASTE] * effect}
        if self.linear is not None:
            weight, slopes = self.weights[LINEAR], self.weights[LINEAR] * self.linear.slopes
            pairs = torch.as_tensor(np.ascontiguousarray(stack.transpose(1, 2, 0)))
            parts = behaviour_parts(pairs, torch.as_tensor(residual), torch.as_tensor(clicked)).numpy()
            behaviours += np.einsum("tkpf,pf->tfk", parts, slopes[history].reshape(shape[1:]))
            of_taste += slopes[at_taste]
            rest = weight * self.linear.clipped(features)  # of features beyond their bounds
            rest[:, at_effect] += slopes[at_effect] * effect
            rest[:, history.stop :] += slopes[history.stop :] * features[:, history.stop :]
            self._add_features(named, rest, history, shape)
        if self.trees is not None:
            found = self.weights[TREES] * self.trees.terms(features)[:, :-1]
            self._add_features(named, found, history, shape)
        return ScoreTerms(behaviours, of_taste, named)

    def _add_features(
        self, named: dict[str, np.ndarray], terms: np.ndarray, history: slice, shape: tuple[int, int, int]
    ) -> None:
        """Terms (K, P) by feature go to what each is of: effect, taste, level, a kernel, a column."""
        of_kernels = terms[:, history].reshape(shape).sum(axis=1)
        of_columns = terms[:, history.stop :].reshape(len(terms), 3, len(self.columns)).sum(axis=1)
        names = (*SINGLE, *self.kernels, *self.columns)
        for name, one in zip(names, np.hstack([terms[:, : len(SINGLE)], of_kernels, of_columns]).T, strict=True):
            named[name] = named.get(name, 0.0) + one

    def save(self, folder: Path) -> None:
        """Writes its files into a folder that is there."""
        named = {"kernels": self.kernels, "columns": self.columns, "weights": dict(self.weights)}
        named |= {"features": feature_names(self.kernels, self.columns)}  # to know another version's by
        (folder / FILE).write_text(json.dumps(named, ensure_ascii=False, indent=1), encoding="utf-8")
        if self.linear is not None:
            save_file(
                {name: np.ascontiguousarray(one) for name, one in self.linear._asdict().items()}, folder / LINEAR_FILE
            )
            (folder / LINEAR_FILE).chmod(0o644)  # safetensors lets only the owner read
        if self.trees is not None:
            (folder / TREES_FILE).write_text(self.trees.text, encoding="utf-8")
        if self.network is not None:
            save_network(self.network, folder)


def open_reranker(folder: Path) -> Reranker | None:
    """What `save` wrote; None where it wrote nothing. Raises ModelError for one of other features than today."""
    if not (folder / FILE).exists():
        return None
    numbers = json.loads((folder / FILE).read_bytes())
    linear, trees = folder / LINEAR_FILE, folder / TREES_FILE
    reads = list(feature_names(numbers["kernels"], numbers["columns"]))
    if {LINEAR, TREES} & set(numbers["weights"]) and numbers.get("features") != reads:
        raise ModelError(
            f"model {folder.parent}: its rerankers were trained on other features than this version of llmrec_spark "
            "gives them. Train again: jobs/train_model.py, with an untrained version as --model."
        )
    return Reranker(
        kernels=tuple(numbers["kernels"]),
        columns=tuple(numbers["columns"]),
        weights=numbers["weights"],
        linear=LinearRanker(**load_file(linear)) if linear.exists() else None,
        trees=TreeRanker(trees.read_text(encoding="utf-8")) if trees.exists() else None,
        network=load_network(folder) if NETWORK in numbers["weights"] else None,
    )
