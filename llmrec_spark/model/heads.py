"""The two probabilities of an ad, from what a network says of it, trained together over every impression.

ESMM (Ma et al. 2018, Entire Space Multi-Task Model): p_ctcvr = p_click p_conversion is fitted on all impressions, so
p_conversion, which is given a click, needs no sample of clicks alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HeadLogits(NamedTuple):
    """Log-odds of B lists of K ads."""

    click: Tensor  # (B, K) float32, at the position given
    conversion: Tensor  # (B, K) float32, given a click


class Probabilities(NamedTuple):
    """Of B lists of K ads, each in [0, 1]."""

    click: Tensor  # (B, K)
    conversion: Tensor  # (B, K), given a click
    ctcvr: Tensor  # (B, K), of a click and a conversion: their product


class Heads(nn.Module):
    """A vector per ad -> its log-odds. Starts at the offsets exactly: the last layer is zero.

    The position's term is 0 at the first position, so leaving it out is scoring there.
    """

    def __init__(self, width: int, max_position: int) -> None:
        super().__init__()
        self.click, self.conversion = nn.Linear(width, 1), nn.Linear(width, 1)
        self.position = nn.Embedding(max_position + 1, 1, padding_idx=1)  # 0 is an unknown one
        for weights in (*self.click.parameters(), *self.conversion.parameters(), *self.position.parameters()):
            nn.init.zeros_(weights)

    def forward(self, x: Tensor, offsets: Tensor, conversion_offsets: Tensor, positions: Tensor | None) -> HeadLogits:
        """x (B, K, W), both offsets (B, K), positions (B, K) int64 from 1 in training, None in scoring."""
        click = self.click(x).squeeze(-1).float() + offsets
        conversion = self.conversion(x).squeeze(-1).float() + conversion_offsets
        if positions is not None:
            click = click + self.position(positions.clamp(max=self.position.num_embeddings - 1)).squeeze(-1).float()
        return HeadLogits(click, conversion)


def probabilities(logits: HeadLogits) -> Probabilities:
    """What the log-odds say."""
    click, conversion = torch.sigmoid(logits.click), torch.sigmoid(logits.conversion)
    return Probabilities(click, conversion, click * conversion)


def log_ctcvr(logits: HeadLogits) -> tuple[Tensor, Tensor]:
    """log p_ctcvr and log(1 - p_ctcvr), (B, K) each, finite however sure the heads are.

    1 - p q = (1 - p) + p (1 - q), in logarithms: no difference of numbers near 1.
    """
    log_p = F.logsigmoid(logits.click)
    no_conversion = log_p + F.logsigmoid(-logits.conversion)
    return log_p + F.logsigmoid(logits.conversion), torch.logaddexp(F.logsigmoid(-logits.click), no_conversion)
