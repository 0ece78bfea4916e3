"""Networks that read histories: global attention over an ad's fields, an encoder of behaviours, target attention.

B users, T behaviours, K candidates; N fields and M numbers of an ad; text vectors of width D, the network's own of W.
An encoder gives S tokens a user: a learned start, which a cold user has too, then one per behaviour (or text).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmrec_spark.model.network_batches import KINDS, SKIPPED, TEXT_ROLES, Behaviours
from llmrec_spark.network_config import NetworkConfig

GAP_BUCKETS = 24  # of time between two behaviours, each twice as long as the one before: hours to centuries
START_BUCKET = GAP_BUCKETS  # the start token has no time
SMALL = 0.02  # first size of what is added to an ad's vector: at first a token is nearly the ad itself
PRIOR_BEHAVIOURS = 10.0  # in the mean over a history: a short one says less


class Encoded(NamedTuple):
    """A history as target attention reads it."""

    tokens: Tensor  # (B, S, W)
    signals: Tensor  # (B, S, 3): residual, clicked, skipped; 0 for the start
    present: Tensor  # (B, S) bool; the start always is


def masked_softmax(logits: Tensor, present: Tensor) -> Tensor:
    """Softmax over the last axis of what is present; 0 everywhere where nothing is, and no NaN in the gradient."""
    weights: Tensor = logits.masked_fill(~present, torch.finfo(logits.dtype).min).softmax(dim=-1) * present
    return weights


class UnitProjection(nn.Linear):
    """Unit vectors of width D -> width W; they are stretched so that an entry is about 1, as AdamW's steps expect."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__(text_width, width, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., D) -> (..., W)."""
        return super().forward(vectors * self.in_features**0.5)


class AdNetwork(nn.Module):
    """The fields of an ad -> one vector: global attention, whoever looks."""

    def __init__(self, config: NetworkConfig, text_width: int, fields: int, numbers: int) -> None:
        super().__init__()
        self.project = UnitProjection(text_width, config.width)
        self.field = nn.Parameter(torch.zeros(fields, config.width))
        self.focus = nn.Linear(config.width, 1)
        self.textless = nn.Parameter(torch.zeros(config.width))
        self.numbers = nn.Parameter(torch.zeros(numbers, config.width))

    def forward(self, vectors: Tensor, fields: Tensor, numbers: Tensor) -> Tensor:
        """vectors (V, D), fields (..., N) int64 into them or -1, numbers (..., M) -> (..., W)."""
        present = fields >= 0
        x = self.project(vectors)[fields.clamp(min=0)] + self.field  # (..., N, W)
        weights = masked_softmax(self.focus(torch.tanh(x)).squeeze(-1), present)  # (..., N)
        pooled = torch.einsum("...n,...nw->...w", weights, x)
        has_text = present.any(dim=-1, keepdim=True)
        said: Tensor = torch.where(has_text, pooled, self.textless.to(pooled.dtype)) + numbers @ self.numbers
        return said


class BehaviourTokens(nn.Module):
    """What a behaviour was, of which ad, and how long ago -> one vector each, after the start."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(config.width))
        self.kind = nn.Embedding(len(KINDS), config.width)
        self.value = nn.Linear(2, config.width, bias=False)  # residual, log(1 + age in days)
        self.hidden = nn.Parameter(torch.zeros(config.width))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.kind.weight, std=SMALL)

    def forward(self, ads: Tensor, behaviours: Behaviours) -> Encoded:
        """ads (B, T, W) -> tokens of S = 1 + T, each by itself."""
        ads = torch.where(behaviours.hidden[..., None], self.hidden.to(ads.dtype), ads)
        values = torch.stack([behaviours.residuals, torch.log1p(behaviours.age_days)], dim=-1)  # (B, T, 2)
        events = self.norm(ads + self.kind(behaviours.kinds) + self.value(values))  # (B, T, W)
        start = self.start.to(events.dtype).expand(len(events), 1, -1)  # (B, 1, W)
        clicked = behaviours.kinds != SKIPPED
        signals = torch.stack([behaviours.residuals, clicked.float(), (~clicked).float()], dim=-1)  # (B, T, 3)
        signals = F.pad(signals * behaviours.present[..., None], (0, 0, 1, 0))  # (B, S, 3)
        return Encoded(torch.cat([start, events], dim=1), signals, F.pad(behaviours.present, (1, 0), value=True))


class LstmEncoder(nn.Module):
    """The long-term trend: each token knows all before it."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.body = nn.LSTM(config.width, config.width, config.layers, batch_first=True, dropout=between)

    def forward(self, encoded: Encoded, age_days: Tensor, *, causal: bool) -> Encoded:
        """Padding is on the right, so it comes after all that is real; causal either way."""
        return encoded._replace(tokens=encoded.tokens + self.body(encoded.tokens)[0])


class AttentionBlock(nn.Module):
    """Self-attention with a bias per pair, and a feed-forward layer; each normalises first."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.first, self.second = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.split = nn.Linear(config.width, 3 * config.width)
        self.join = nn.Linear(config.width, config.width)
        self.widen, self.narrow = nn.Linear(config.width, 4 * config.width), nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, S, W), bias (B, H, S, S), -inf where one must not see the other -> (B, S, W)."""
        q, k, v = self.split(self.first(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, S, W/H)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout)
        x = x + F.dropout(self.join(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        wide = F.gelu(self.widen(self.second(x)))  # (B, S, 4 W)
        return x + F.dropout(self.narrow(wide), self.dropout, self.training)


class TransformerEncoder(nn.Module):
    """Self-attention over the behaviours, by position from the newest and by the real time between them."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.position = nn.Embedding(config.max_behaviours + 1, config.width)
        self.gap = nn.Embedding(GAP_BUCKETS + 1, config.heads)
        nn.init.normal_(self.position.weight, std=SMALL)
        nn.init.zeros_(self.gap.weight)
        self.blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.layers))

    def forward(self, encoded: Encoded, age_days: Tensor, *, causal: bool) -> Encoded:
        """age_days (B, T) of the behaviours. causal: no token sees a later one."""
        present = encoded.present
        newer = present.sum(dim=1, keepdim=True) - present.cumsum(dim=1)  # (B, S), how many came after it
        x = encoded.tokens + self.position(newer.clamp(max=self.position.num_embeddings - 1))
        seen = present[:, None, :].expand(-1, present.shape[1], -1)  # (B, S, S)
        seen = seen.tril() if causal else seen
        bias = self.gap(gap_buckets(age_days)).permute(0, 3, 1, 2)  # (B, H, S, S)
        bias = bias.masked_fill(~seen[:, None], float("-inf"))  # everyone sees the start
        for block in self.blocks:
            x = block(x, bias)
        return encoded._replace(tokens=x)


def gap_buckets(age_days: Tensor) -> Tensor:
    """(B, T) -> (B, S, S) int64: floor(log2(1 + hours between two behaviours)), and START_BUCKET beside the start."""
    hours = (age_days[:, :, None] - age_days[:, None, :]).abs() * 24.0  # (B, T, T)
    buckets = torch.log2(1.0 + hours).floor().long().clamp(max=GAP_BUCKETS - 1)
    return F.pad(buckets, (1, 0, 1, 0), value=START_BUCKET)


class SequenceEncoder(nn.Module):
    """Behaviours as tokens, mixed by an LSTM or by self-attention."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.tokens = BehaviourTokens(config)
        self.body = LstmEncoder(config) if config.behaviours == "lstm" else TransformerEncoder(config)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, ads: Tensor, behaviours: Behaviours, texts: Tensor, *, causal: bool = False) -> Encoded:
        """ads (B, T, W); texts are not read."""
        encoded: Encoded = self.body(self.tokens(ads, behaviours), behaviours.age_days, causal=causal)
        return encoded._replace(tokens=self.norm(encoded.tokens))


class TextEncoder(nn.Module):
    """The last behaviours as a language model read them: the clicks as one text, the skips as another."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(config.width))
        self.role = nn.Parameter(torch.zeros(len(TEXT_ROLES), config.width))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, ads: Tensor, behaviours: Behaviours, texts: Tensor, *, causal: bool = False) -> Encoded:
        """texts (B, 2, W) as the fields of ads are projected, 0 where there is none; ads and behaviours are not read.

        What projects both is one, or at first a text would have nothing to do with the ads that it names.
        """
        present = (texts != 0).any(dim=-1)  # (B, 2)
        x = texts + self.role  # (B, 2, W)
        start = self.start.to(x.dtype).expand(len(x), 1, -1)
        # clicks, skips: of TEXT_ROLES
        signals = texts.new_tensor([[1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]) * present[..., None]  # (B, 2, 3)
        signals = F.pad(signals, (0, 0, 1, 0))  # (B, S, 3), S = 3
        return Encoded(self.norm(torch.cat([start, x], dim=1)), signals, F.pad(present, (1, 0), value=True))


def behaviour_encoder(config: NetworkConfig) -> SequenceEncoder | TextEncoder:
    """The encoder that `network.behaviours` names."""
    return TextEncoder(config) if config.behaviours == "text" else SequenceEncoder(config)


class TargetAttention(nn.Module):
    """What a history says of each candidate: what it attends to, and the signals of what resembles it."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.key.load_state_dict(self.query.state_dict())  # at first, what is near in the space of ads
        self.value = nn.Linear(config.width, config.width)

    def forward(self, candidates: Tensor, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """candidates (B, K, W) -> softmax-weighted tokens (B, K, W) and signals (B, K, 6 H), H heads.

        Signals of each head: residual, clicked, skipped, weighted by softmax; then the three summed by similarity.
        """
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1))  # (B, K or S, H, W/H)
            for linear, x in ((self.query, candidates), (self.key, encoded.tokens), (self.value, encoded.tokens))
        )
        similarity = torch.einsum("bkhw,bshw->bkhs", q, k) / q.shape[-1] ** 0.5
        present = encoded.present[:, None, None, :]  # (B, 1, 1, S)
        weights = masked_softmax(similarity, present)  # (B, K, H, S)
        context = torch.einsum("bkhs,bshw->bkhw", weights, v).flatten(2)  # (B, K, W)
        signals = encoded.signals.to(weights.dtype)
        nearest = torch.einsum("bkhs,bsc->bkhc", weights, signals).flatten(2)  # (B, K, 3 H)
        behaviours = encoded.present.sum(dim=1) - 1.0  # (B,), without the start
        mean = torch.einsum("bkhs,bsc->bkhc", similarity, signals).flatten(2)  # (B, K, 3 H)
        mean = mean / (behaviours + PRIOR_BEHAVIOURS).sqrt()[:, None, None]
        return context, torch.cat([nearest, mean], dim=-1)
