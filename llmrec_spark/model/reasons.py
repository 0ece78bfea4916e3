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
    groups: dict[tuple[str | None, str], int] = {}
    group = np.array([groups.setdefault(pair, len(groups)) for pair in zip(ad_ids, event_types, strict=True)])
    sums = np.zeros((len(groups), *terms.shape[1:]))
    np.add.at(sums, group, terms * scale)
    names = [(ad_id, kind, field) for ad_id, kind in groups for field in (*fields, KEYWORDS)]
    flat = sums.reshape(len(names), -1)  # (groups x (N + 1), K)
    by_name = sorted(range(len(names)), key=lambda i: tuple(part or "" for part in names[i]))  # order of equal parts
    reasons = []
    for ad, total in enumerate(log_odds):
        column = flat[by_name, ad]
        largest = np.argsort(-np.abs(column), kind="stable")[:STORED]
        stored = [Reason(*names[by_name[i]], float(column[i])) for i in largest if column[i] != 0.0]
        rest = float(total) - sum(reason.contribution for reason in stored)
        reasons.append([*stored, Reason(None, None, OTHER, rest)])
    return reasons
