"""Kernels by what they compare, and a look-up without some of them, to see what they bring to a taste."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from llmrec_spark.model.ad_reader import SAME_PEOPLE
from llmrec_spark.model.pair_kernels import SLOPE
from llmrec_spark.model.taste_gp import Kernels

TEXTS, KEYWORDS, COLUMNS, GROUPS = "texts", "keywords", "columns", "groups"
PEOPLE, ITSELF = "the same people", "the ad itself"
PREFIXES = (("near in ", COLUMNS), (SLOPE, COLUMNS), ("same ", GROUPS))


def kernel_group(name: str) -> str:
    """What a kernel of ItemFeatures.names compares."""
    exact = {"keywords": KEYWORDS, "same": ITSELF, SAME_PEOPLE: PEOPLE}
    return exact.get(name) or next((group for start, group in PREFIXES if name.startswith(start)), TEXTS)


def without_groups(kernels: Kernels, names: Sequence[str], groups: Collection[str]) -> Kernels:
    """The look-up with the kernels of `groups` 0 for every pair; names (F,) in the order of the look-up."""
    if not groups:
        return kernels
    kept = torch.tensor([kernel_group(name) not in groups for name in names], dtype=torch.float32)

    def masked(rows: Tensor, columns: Tensor) -> Tensor:
        return kernels(rows, columns) * kept

    return masked
