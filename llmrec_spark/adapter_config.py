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
    pairs: int = Field(20_000, ge=32)  # of a behaviour and an ad clicked after it, at most; drawn
    max_tokens: int = Field(64, ge=4)  # of a text while it learns; what is adapted reads as many as before
    batch_pairs: int = Field(32, ge=2)  # of a step; each pair's ad is set against those of the others
    epochs: int = Field(1, ge=1)
    learning_rate: float | None = Field(None, gt=0)  # of AdamW after the warm-up; null: 5e-4, of kind full 5e-5
    weight_decay: float = Field(0.01, ge=0)  # of matrices
    warmup_share: float = Field(0.1, ge=0, lt=1)  # of all steps; then down to 0 along a cosine
    dropout: float = Field(0.1, ge=0, lt=1)  # of what an adapter of kind lora or adalora reads
    temperature: float = Field(0.1, gt=0)  # of the cosine between a behaviour and an ad
    mixed_precision: bool = False  # bfloat16 where it is safe; a GPU wants it
    checkpoint_steps: int = Field(100, ge=1)  # steps after which a killed training goes on at the latest
    folder: str | None = None  # of checkpoints: a killed training goes on from there; null, or adalora: it begins again
    seed: int = 1

    @property
    def rate(self) -> float:
        """learning_rate, whether it is given or not."""
        usual = 5e-5 if self.kind == "full" else 5e-4
        return usual if self.learning_rate is None else self.learning_rate
