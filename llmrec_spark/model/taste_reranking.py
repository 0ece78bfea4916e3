"""The best ads of one user through the trained ranker's second step: scored anew, and taken apart.

A user's impressions are compared with every such ad by every kernel: (F, T, K) numbers, where the taste needs one for
each pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from llmrec_spark.model.network_attribution import occluded_contributions
from llmrec_spark.model.network_batches import TEXT_ROLES, Batch
from llmrec_spark.model.network_lists import batch_of, recent_behaviours
from llmrec_spark.model.pair_features import EFFECT, LEVEL, compared_kernels, user_features
from llmrec_spark.model.pair_kernels import pair_kernels
from llmrec_spark.model.ranking_network import score_lists
from llmrec_spark.model.reranker import NETWORK
from llmrec_spark.model.taste_gp import taste_terms
from llmrec_spark.model.taste_scoring import Tastes, TrainedAds


class Terms(NamedTuple):
    """log_odds of one user for K ads, taken apart; what a reranker leaves out is the same for all ads."""

    behaviours: np.ndarray  # (T, F, K) by impression and kernel, the network last where there is one
    parts: tuple[str, ...]  # names of these F
    taste: np.ndarray  # (K,) of the Gaussian process alone
    features: Mapping[str, np.ndarray]  # (K,) by name


def reranked(ads: TrainedAds, tastes: Tastes, user: int, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log_odds of one user for the items (K,) by the reranker, at the first position, and the taste, (K,) both.

    A user of whom nothing is known is not reranked: no reranker has learned from one.
    """
    reranker, own = ads.ranker.rerank, tastes.of(user)
    assert reranker is not None
    if not len(tastes.item[own]):
        nothing = np.zeros(len(items))
        return ads.log_odds(tastes.level[[user]], items, nothing[None])[0], nothing
    stack = pair_kernels(ads.features, tastes.item[own], items)
    taste = np.asarray(tastes.alpha[own] @ np.tensordot(ads.weights, stack, 1))
    values = pair_values(ads, tastes, user, items, stack, taste)
    added = None
    if reranker.network is not None:
        batch, _ = network_batch(ads, tastes, user, items)
        added = score_lists(reranker.network, batch, ads.ad_table).click[0].double().numpy()
    score = reranker.together(reranker.scores(ads.effects[0][items] + taste, values, added))
    return tastes.level[user] + ads.first_position + score, taste


def terms_of(ads: TrainedAds, tastes: Tastes, user: int, items: np.ndarray) -> Terms:
    """log_odds of one user for the items (K,) taken apart."""
    own = tastes.of(user)
    stack = pair_kernels(ads.features, tastes.item[own], items)  # (F, T, K)
    of_taste = taste_terms(tastes.alpha[own], stack, np.log(ads.weights))
    taste = of_taste.sum(axis=(0, 1))
    level = np.full(len(items), tastes.level[user] + ads.first_position)
    effect = ads.effects[0][items]
    parts, reranker = tuple(ads.features.names), ads.ranker.rerank
    if reranker is None or not len(of_taste):
        return Terms(of_taste, parts, taste, {EFFECT: effect, LEVEL: level})
    compared = compared_kernels(parts)
    values = pair_values(ads, tastes, user, items, stack, taste)
    found = reranker.terms(effect, values, stack[compared], tastes.residual[own], tastes.clicked[own])
    behaviours = of_taste * found.taste
    behaviours[:, compared] += found.behaviours
    features = {**found.features, LEVEL: level + found.features.get(LEVEL, 0.0)}
    if reranker.network is not None:
        batch, read = network_batch(ads, tastes, user, items)
        weight, said = reranker.weights[NETWORK], occluded_contributions(reranker.network, batch, ads.ad_table)
        added = weight * said.behaviours[0].double().numpy()
        if reranker.network.shape.config.behaviours == "text":
            features |= dict(zip(TEXT_ROLES, added, strict=True))
        else:
            of_network = np.zeros((len(behaviours), 1, len(items)))
            of_network[read, 0] = added
            behaviours, parts = np.concatenate([behaviours, of_network], axis=1), (*parts, NETWORK)
        features[NETWORK] = weight * said.rest[0].double().numpy()
    return Terms(behaviours, parts, taste, features)


def network_batch(ads: TrainedAds, tastes: Tastes, user: int, items: np.ndarray) -> tuple[Batch, np.ndarray]:
    """One user and the items (K,) as a network reads them, and which of the user's impressions it reads, (T,)."""
    assert ads.ranker.rerank is not None
    assert ads.ranker.rerank.network is not None
    own, shape = tastes.of(user), ads.ranker.rerank.network.shape
    parts = (np.arange(len(tastes.item[own])), tastes.clicked[own], tastes.residual[own], tastes.age_days[own])
    longest = shape.config.max_behaviours
    behaviours = recent_behaviours(*(torch.as_tensor(one)[None] for one in parts), longest=longest)
    read = behaviours.items[0].numpy()
    behaviours = replace(behaviours, items=torch.as_tensor(tastes.item[own][read])[None])
    asked = torch.as_tensor(np.array(items))[None]
    texts = None
    if shape.config.behaviours == "text":
        if tastes.texts is None:
            raise ValueError("a network of behaviours: text is given no texts of histories")
        texts = torch.as_tensor(tastes.texts[user])[None]
    return batch_of(torch.zeros(1, dtype=torch.long), behaviours, asked, text_width=shape.text_width, texts=texts), read


def pair_values(
    ads: TrainedAds, tastes: Tastes, user: int, items: np.ndarray, stack: np.ndarray, taste: np.ndarray
) -> np.ndarray:
    """(K, P) what rankers read of one user and the items (K,), in the order of pair_features.feature_names.

    stack (F, T, K) every kernel of the user's T impressions and the items, taste (K,)
    """
    own = tastes.of(user)
    return user_features(
        tastes.item[own],
        tastes.clicked[own],
        tastes.residual[own],
        float(tastes.level[user]),
        ads.effects[0][items],
        taste,
        stack[compared_kernels(ads.features.names)],
        ads.slopes[tastes.item[own]],
        ads.slopes[items],
    )
