"""Why an ad is where it is: the signed parts of its log-odds, exact because match and taste are sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

KEYWORDS = "keywords"  # the name of the keyword part, beside the text fields
OTHER = "other"  # what the stored reasons leave
STORED, STORED_FEATURES = 5, 3


class Reason(NamedTuple):
    """One part of log_odds. ad_id is None for a search, for a feature and for `other`."""

    ad_id: str | None
    event_type: str | None
    field: str
    contribution: float


def list_reasons(
    terms: np.ndarray,
    ad_ids: Sequence[str | None],
    event_types: Sequence[str],
    parts: Sequence[str],
    log_odds: np.ndarray,
    scale: float,
    features: Mapping[str, np.ndarray] | None = None,
    always: Sequence[str] = (),
) -> list[list[Reason]]:
    """The reasons of K ads of one user: the five largest of behaviours by size, features, then `other`.

    They add up to log_odds. terms (T, P, K), times scale, are what each behaviour adds, part by part; ad_ids and
    event_types (T,) say what each behaviour was. Terms are summed by (ad, event type, part). Of features (K,) by name
    the three largest by size are kept, then those of `always`.
    """
    known = [_kept_features(features or {}, always, ad) for ad in range(len(log_odds))]
    if not len(terms) or not scale:
        return [_with_other([], rest, total) for rest, total in zip(known, log_odds, strict=True)]
    pairs = sorted(zip(ad_ids, event_types, strict=True), key=lambda pair: (pair[0] or "", pair[1]))
    groups = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}  # sorted: settles equal parts
    group = np.array([groups[pair] for pair in zip(ad_ids, event_types, strict=True)])
    sums = np.zeros((len(groups), *terms.shape[1:]))
    np.add.at(sums, group, terms * scale)
    flat = sums.reshape(-1, sums.shape[-1])  # (groups x P, K)
    largest = np.argsort(-np.abs(flat), axis=0, kind="stable")[:STORED]  # (5, K)
    named = list(groups)
    reasons = []
    for ad, total in enumerate(log_odds):
        stored = []
        for place in largest[:, ad].tolist():
            (ad_id, event_type), part = named[place // len(parts)], parts[place % len(parts)]
            if flat[place, ad] != 0.0:
                stored.append(Reason(ad_id, event_type, part, float(flat[place, ad])))
        reasons.append(_with_other(stored, known[ad], total))
    return reasons


def set_off(terms: np.ndarray) -> np.ndarray:
    """Terms (T, P, K) whose part says yes or no of many behaviours at once, what they say for and against set off.

    A user clicked and skipped many ads of one language: by single ads they add up to little, and the largest of them
    would hide what matters. What has the sign of the sum over T is kept, shrunk to that sum; the rest is 0.
    """
    net = terms.sum(axis=0)  # (P, K)
    kept = np.where(terms * net > 0.0, terms, 0.0)
    total = kept.sum(axis=0)
    return np.asarray(kept * np.divide(net, total, out=np.zeros_like(net), where=total != 0.0))


def _kept_features(features: Mapping[str, np.ndarray], always: Sequence[str], ad: int) -> list[Reason]:
    values = {name: float(one[ad]) for name, one in features.items()}
    others = [name for name, value in values.items() if name not in always and value]
    others.sort(key=lambda name: (-abs(values[name]), name))
    return [Reason(None, None, name, values[name]) for name in [*others[:STORED_FEATURES], *always]]


def _with_other(stored: list[Reason], features: list[Reason], total: float) -> list[Reason]:
    named = [*stored, *features]
    return [*named, Reason(None, None, OTHER, float(total) - sum(reason.contribution for reason in named))]
