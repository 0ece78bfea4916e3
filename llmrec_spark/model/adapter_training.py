"""An encoder adapted to what people click: the texts of what somebody did and of an ad clicked after it come closer.

The loss is InfoNCE over a batch of pairs (van den Oord et al., 2018): each pair's ad against the ads of the others,
which are there as often as they are popular, so the logarithm of that share is subtracted (Yi et al., 2019:
Sampling-bias-corrected neural modeling for large corpus item recommendations).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import AdamW

from llmrec_spark.adapter_config import AdapterConfig
from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model.ad_encoder import WEIGHTS, AdEncoder, encoder_digest, encoder_files
from llmrec_spark.model.encoder_adapter import after_step, learning, new_adapter, orthogonality, save_adapter
from llmrec_spark.model.training_checkpoint import Progress, newest_checkpoint, restore_moments, save_checkpoint
from llmrec_spark.model.training_loop import seed_of
from llmrec_spark.model.training_sample import Examples, ShownBefore
from llmrec_spark.model.training_steps import decayed_groups, learning_rate_factor
from llmrec_spark.model.whole_folder import link_or_copy, whole_folder

TOKEN_BUDGET = 4_096  # padded tokens that the encoder reads at once; a step keeps the graphs of all
CLIP_NORM = 1.0
TOLD = 10  # times that a training says how far it is


class Pairs(NamedTuple):
    """P clicks after a behaviour of the same person."""

    behaviour: np.ndarray  # (P,) item that was clicked before
    ad: np.ndarray  # (P,) item that was clicked in the list


def contrastive_pairs(examples: Examples, before: ShownBefore, has_text: np.ndarray, *, most: int, seed: int) -> Pairs:
    """Every click that trains with one of the ads its user had clicked before, drawn; at most `most` of them.

    has_text (I,) bool of the items; a pair has texts on both sides, and two different ads.
    """
    draws = np.random.default_rng(seed)
    readable = (before.item >= 0) & np.append(has_text, False)[before.item]
    place = np.flatnonzero(before.clicked & readable)  # of the behaviours that count
    first, beyond = np.searchsorted(place, before.offsets[:-1]), np.searchsorted(place, before.offsets[1:])
    clicks = np.flatnonzero(examples.trains & examples.clicked)
    lists = examples.list[clicks]
    drawn = first[lists] + np.floor(draws.random(len(clicks)) * (beyond - first)[lists]).astype(np.int64)
    has_one = beyond[lists] > first[lists]
    behaviour = before.item[place[np.where(has_one, drawn, 0)]] if len(place) else np.zeros(len(clicks), dtype=int)
    ad = examples.item[clicks]
    kept = np.flatnonzero(has_one & (behaviour != ad) & has_text[ad])
    chosen = np.sort(draws.permutation(len(kept))[:most])
    return Pairs(behaviour[kept[chosen]], ad[kept[chosen]])


class Learned(nn.Module):
    """The weights that learn, as a module of them alone: what a checkpoint keeps."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(name.replace(".", "/"), weight)  # type: ignore[arg-type]


def adapt_encoder(
    folder: Path,
    source: Path,
    settings: EncoderConfig,
    pairs: Pairs,
    texts: Sequence[Sequence[str]],
    config: AdapterConfig,
    *,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda line: None,
) -> list[float]:
    """Writes the encoder of `source`, adapted, to `folder`; the loss of each step.

    Files of `source` that stay as they were are hard links where the file system allows it. texts[i] are those of item
    i, one a field; `tell` hears how far it is. Goes on where a killed training of the same arguments was, given
    `config.folder`, on a CPU to the same weights.
    """
    torch.manual_seed(config.seed)
    short = settings.model_copy(update={"max_tokens": min(settings.max_tokens, config.max_tokens), "dtype": "float32"})
    encoder = AdEncoder(str(source), short, device)
    steps = config.epochs * ceil(len(pairs.ad) / config.batch_pairs)
    positions = getattr(encoder.model.config, "max_position_embeddings", None)
    if config.kind == "prefix" and positions and settings.max_tokens + config.prefix_tokens > positions:
        raise ModelError(
            f"adapter.prefix_tokens is {config.prefix_tokens} beside {settings.max_tokens} tokens of a text; expected "
            f"at most {positions}, the encoder's positions, together. Lower it, or encoding.settings.max_tokens."
        )
    encoder.model, adapter = new_adapter(encoder.model, config, steps=steps)
    adapter.to(device)
    begun_with: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude={"folder", "checkpoint_steps"}),
        "encoder": encoder_digest(source, short),
        "pairs": hashlib.sha256(repr((pairs.behaviour.tolist(), pairs.ad.tolist(), texts)).encode()).hexdigest(),
    }
    losses = _train(encoder, adapter, pairs, texts, config, begun_with, steps=steps, tell=tell)
    with whole_folder(folder) as new:
        for name in encoder_files(source):
            if config.kind != "full" or not any(Path(name).match(pattern) for pattern in WEIGHTS):
                (new / name).parent.mkdir(exist_ok=True)
                link_or_copy((source / name).resolve(), new / name)
        if config.kind == "full":
            state = {name: weight.detach().clone() for name, weight in encoder.model.state_dict().items()}
            save_file(state, new / "model.safetensors", metadata={"format": "pt"})
            (new / "model.safetensors").chmod(0o644)  # safetensors lets only the owner read
        else:
            save_adapter(adapter, new)
    return losses


def _train(
    encoder: AdEncoder,
    adapter: nn.Module,
    pairs: Pairs,
    texts: Sequence[Sequence[str]],
    config: AdapterConfig,
    begun_with: dict[str, Any],
    *,
    steps: int,
    tell: Callable[[str], None],
) -> list[float]:
    """Trains the adapter in place, from where a killed training was; the loss of each step."""
    learned = Learned(learning(adapter))
    optimizer = AdamW(decayed_groups(learned, config.weight_decay), lr=config.rate)
    progress, folder = Progress("training"), _checkpoints(config)
    if folder is not None and (checkpoint := newest_checkpoint(folder, begun_with=begun_with)) is not None:
        learned.load_state_dict(checkpoint.weights)
        restore_moments(checkpoint.moments, learned, optimizer)
        progress = checkpoint.progress
    per_epoch = steps // config.epochs
    counts = torch.bincount(torch.as_tensor(pairs.ad), minlength=len(texts))  # (I,)
    log_share = (counts / len(pairs.ad)).log().to(encoder.device)
    if progress.step == steps:
        tell(f"  adapter: {steps:,} steps of an earlier try")
    while progress.step < steps:
        epoch, number = divmod(progress.step, per_epoch)
        order = np.random.default_rng((config.seed, epoch)).permutation(len(pairs.ad))
        rows = order[number * config.batch_pairs : (number + 1) * config.batch_pairs]
        factor = learning_rate_factor(progress.step, steps=steps, warmup_share=config.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = config.rate * factor
        torch.manual_seed(seed_of(config.seed, "adapter", progress.step))  # of dropout
        encoder.model.train()
        optimizer.zero_grad()
        draws = np.random.default_rng((config.seed, epoch, number))
        loss = batch_loss(encoder, Pairs(pairs.behaviour[rows], pairs.ad[rows]), texts, log_share, config, draws)
        value = float(loss.detach())
        if not isfinite(value):
            raise ModelError(f"adapter: the loss is {value} in step {progress.step}. Lower adapter.learning_rate.")
        (loss + orthogonality(adapter)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned.parameters(), CLIP_NORM)
        optimizer.step()
        after_step(adapter, progress.step)
        progress.losses.append(value)
        progress.step += 1
        if progress.step * TOLD // steps > (progress.step - 1) * TOLD // steps:
            lately = float(np.mean(progress.losses[-(steps // TOLD + 1) :]))
            tell(f"  adapter: step {progress.step:,} of {steps:,}, loss {lately:.3f}")
        if folder is not None and (progress.step % config.checkpoint_steps == 0 or progress.step == steps):
            save_checkpoint(folder, progress, learned, optimizer, None, begun_with=begun_with)
    encoder.model.eval()
    return progress.losses


def _checkpoints(config: AdapterConfig) -> Path | None:
    """Where they are kept; nowhere for AdaLoRA, of which peft does not keep what its ranks were decided by."""
    return Path(config.folder) if config.folder is not None and config.kind != "adalora" else None


def batch_loss(
    encoder: AdEncoder,
    batch: Pairs,
    texts: Sequence[Sequence[str]],
    log_share: Tensor,
    config: AdapterConfig,
    draws: np.random.Generator,
) -> Tensor:
    """The loss of a batch, of one text drawn of each item: the match compares field with field too.

    log_share (I,) logarithm of how often each item is the ad of a pair
    """
    read = [texts[item] for item in np.concatenate(batch)]  # of the behaviours, then of the ads
    drawn = [of_item[int(draws.integers(len(of_item)))] for of_item in read]
    distinct = sorted(set(drawn))
    place = {text: number for number, text in enumerate(distinct)}
    with torch.autocast(torch.device(encoder.device).type, dtype=torch.bfloat16, enabled=config.mixed_precision):
        vectors = encoder.embed(distinct, TOKEN_BUDGET).float()
    text = torch.tensor([place[one] for one in drawn], device=vectors.device)
    behaviour, ad = vectors[text].chunk(2)
    before, item = (torch.as_tensor(one, device=vectors.device) for one in batch)
    of_before, of_item = text.chunk(2)
    same = (item[:, None] == item) | (of_item[:, None] == of_item)
    same |= (before[:, None] == item) | (of_before[:, None] == of_item)  # what was done is not set against itself
    return info_nce(behaviour, ad, log_share[item], same, config.temperature)


def info_nce(behaviour: Tensor, ad: Tensor, log_share: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Mean over B pairs of -log of the share of a pair's ad among the ads of the batch.

    behaviour, ad (B, D) of unit length; log_share (B,) logarithm of how often the ad is among all pairs; same (B, B)
    which ads are not set against each other
    """
    logits = behaviour @ ad.T / temperature - log_share  # (B, B)
    others = same & ~torch.eye(len(ad), dtype=torch.bool, device=ad.device)
    return F.cross_entropy(logits.masked_fill(others, -torch.inf), torch.arange(len(ad), device=ad.device))
