"""What `adapter:` in a YAML file of conf/ may say: how an encoder learns from what people clicked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmrec_spark.config_section import Section


class AdapterConfig(Section):
    """`adapter:` what `jobs/adapt_encoder.py` adds to an encoder, and how that learns."""

    kind: Literal["lora", "adalora", "prefix", "bottleneck", "full"] = "lora"  # full: every weight learns
    rank: int = Field(8, ge=1)  # of a LoRA update; AdaLoRA's mean rank; the width of a bottleneck
    prefix_tokens: int = Field(16, ge=1)  # of kind prefix, before each text
    pairs: int = Field(20_000, ge=32)  # of a behaviour and an ad clicked after it, at most; chosen by a hash
    max_tokens: int = Field(64, ge=4)  # of a text while it learns; what is adapted reads as many as before
    batch_pairs: int = Field(32, ge=2)  # of a step; each pair's ad is set against those of the others
    epochs: int = Field(1, ge=1)
    learning_rate: float = Field(5e-4, gt=0)  # of AdamW, at the end of the warm-up; full wants a tenth of it
    weight_decay: float = Field(0.01, ge=0)  # of matrices
    warmup_share: float = Field(0.1, ge=0, lt=1)  # of all steps; then down to 0 along a cosine
    dropout: float = Field(0.1, ge=0, lt=1)  # of what an adapter of kind lora or adalora reads
    temperature: float = Field(0.1, gt=0)  # of the cosine between a behaviour and an ad
    mixed_precision: bool = False  # bfloat16 where it is safe; a GPU wants it
    checkpoint_steps: int = Field(100, ge=1)  # steps after which a killed training goes on at the latest
    folder: str | None = None  # of checkpoints: a killed training goes on from there; null, or adalora: it begins again
    seed: int = 1
