"""Why an ad is where it is: the signed parts of its log-odds, exact because the match is a sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

KEYWORDS = "keywords"  # the name of the keyword part, beside the text fields
OTHER = "other"  # what the stored reasons leave
STORED = 5


class Reason(NamedTuple):
    """One part of log_odds. ad_id is None for a search and for `other`."""

    ad_id: str | None
    event_type: str | None
    field: str
    contribution: float


def list_reasons(
    terms: np.ndarray,
    ad_ids: Sequence[str | None],
    event_types: Sequence[str],
    fields: Sequence[str],
    log_odds: np.ndarray,
    scale: float,
) -> list[list[Reason]]:
    """The reasons of K ads of one user: the five largest by size, then `other`; they add up to log_odds.

    terms (T, N + 1, K) add up to match; ad_ids and event_types (T,) say what each behaviour was; scale is
    beta / sigma. Terms are summed by (ad, event type, field).
    """
    if not len(terms) or not scale:
        return [[Reason(None, None, OTHER, float(total))] for total in log_odds]
    pairs = sorted(zip(ad_ids, event_types, strict=True), key=lambda pair: (pair[0] or "", pair[1]))
    groups = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}  # sorted: settles equal parts
    group = np.array([groups[pair] for pair in zip(ad_ids, event_types, strict=True)])
    sums = np.zeros((len(groups), *terms.shape[1:]))
    np.add.at(sums, group, terms * scale)
    flat = sums.reshape(-1, sums.shape[-1])  # (groups x (N + 1), K)
    largest = np.argsort(-np.abs(flat), axis=0, kind="stable")[:STORED]  # (5, K)
    named, parts = list(groups), (*fields, KEYWORDS)
    reasons = []
    for ad, total in enumerate(log_odds):
        stored = []
        for place in largest[:, ad].tolist():
            (ad_id, event_type), part = named[place // len(parts)], parts[place % len(parts)]
            if flat[place, ad] != 0.0:
                stored.append(Reason(ad_id, event_type, part, float(flat[place, ad])))
        rest = float(total) - sum(reason.contribution for reason in stored)
        reasons.append([*stored, Reason(None, None, OTHER, rest)])
    return reasons
