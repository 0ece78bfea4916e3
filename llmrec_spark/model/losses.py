"""What training makes small: one number per list of shown items."""

from __future__ import annotations

from math import inf

import torch.nn.functional as F
from torch import Tensor


def list_loss(scores: Tensor, clicked: Tensor, present: Tensor) -> Tensor:
    """Each clicked item against all unclicked ones of its list: the mean over clicked items, then over mixed lists.

        softplus(logsumexp(scores of unclicked) - score)

    scores (B, L), clicked and present (B, L) bool. Clicked items do not compete with each other. A list without a
    clicked or without an unclicked item says nothing; of such lists alone the loss is 0.
    """
    is_clicked, is_unclicked = clicked & present, ~clicked & present
    mixed = is_clicked.any(dim=1) & is_unclicked.any(dim=1)
    if not bool(mixed.any()):
        return scores.sum() * 0.0
    scores, is_clicked, is_unclicked = scores[mixed], is_clicked[mixed], is_unclicked[mixed]
    against = scores.masked_fill(~is_unclicked, -inf).logsumexp(dim=1, keepdim=True)  # (B, 1)
    terms = F.softplus(against - scores).masked_fill(~is_clicked, 0.0)
    return (terms.sum(dim=1) / is_clicked.sum(dim=1)).mean()
