"""What histories teach without a label: which ad is clicked next, or which ad a hidden behaviour was of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmrec_spark.errors import ConfigError
from llmrec_spark.model.history_augmentation import HIDE, draws, hidden
from llmrec_spark.model.network_batches import SKIPPED, Batch, BatchAds, Behaviours
from llmrec_spark.model.network_losses import Term
from llmrec_spark.model.ranking_network import RankingNetwork
from llmrec_spark.network_config import PretrainingSettings

MAX_NEGATIVES = 2_048  # of a step; the table of similarities stays small


class HistoryObjective(nn.Module):
    """Sampled softmax over ads: the network's own view of each behaviour against the ads of others in the batch.

    Only clicked behaviours are guessed: what was skipped tells what was shown, not what is liked. Every process draws
    its negatives from its own part of a step.
    """

    def __init__(self, network: RankingNetwork, settings: PretrainingSettings) -> None:
        super().__init__()
        config = network.shape.config
        if config.behaviours == "text":
            raise ConfigError(
                "ranker.learning.pretraining.objective: ranker.network.behaviours is text, which has no behaviours to "
                "guess; expected lstm or transformer. Set the objective to none."
            )
        self.network, self.settings = network, settings
        self.expect = nn.Linear(config.width, config.width)

    def forward(self, batch: Batch, ads: BatchAds) -> list[tuple[float, Term]]:
        """One term: the mean over the behaviours that are guessed."""
        behaviours = batch.behaviours
        vectors = self.network.ads(ads.vectors, ads.behaviour_fields, ads.behaviour_numbers)  # (B, T, W)
        is_next = self.settings.objective == "next"
        tokens = self.network.history(vectors, behaviours, batch.texts, causal=is_next).tokens  # (B, 1 + T, W)
        guessed = behaviours.present & (behaviours.kinds != SKIPPED)  # (B, T)
        if not is_next:
            guessed = guessed & behaviours.hidden
        seen = tokens[:, :-1] if is_next else tokens[:, 1:]  # (B, T, W), what may be known of each behaviour
        expected = F.normalize(self.expect(seen[guessed]).float(), dim=-1)  # (n, W)
        actual = F.normalize(vectors[guessed].float(), dim=-1)  # (n, W)
        items, shares = behaviours.items[guessed], ads.behaviour_shares[guessed]  # (n,) each
        each = sampled_softmax(expected, actual, items, shares, temperature=self.settings.temperature)  # (n,)
        return [(1.0, Term(each.sum(), guessed.sum().float()))]

    def hide(self, behaviours: Behaviours, examples: Tensor, *, seed: int, epoch: int) -> Behaviours:
        """The histories as they are learned from; of objective masked, with some ads hidden."""
        if self.settings.objective == "next":
            return behaviours
        return hidden(behaviours, self.settings.mask, draws(examples, behaviours, HIDE, seed, epoch))


def sampled_softmax(expected: Tensor, actual: Tensor, items: Tensor, shares: Tensor, *, temperature: float) -> Tensor:
    """-log P of each actual ad among all ads, estimated from those of the other rows, (n,).

    expected, actual (n, W); items (n,) say which ads are the same, and those are no negatives; shares (n,) > 0. An ad
    of share q is about m q of the m negatives, so its logit is less log(m q), and the sum over them estimates that over
    all other ads (log-Q correction: Bengio and Senecal 2008; Yi et al. 2019). A row's own ad is there for sure, and is
    not corrected.
    """
    step = max(-(-len(items) // MAX_NEGATIVES), 1)  # evenly over the batch
    own = (expected * actual).sum(dim=-1) / temperature  # (n,)
    drawn = len(items[::step]) * shares[::step]  # (m,), how many of each there should be
    others = expected @ actual[::step].T / temperature - drawn.log()  # (n, m)
    others = others.masked_fill(items[:, None] == items[None, ::step], float("-inf"))
    return torch.cat([own[:, None], others], dim=1).logsumexp(dim=1) - own
