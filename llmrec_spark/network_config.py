"""The shape of a network that ranks the best ads, `ranker.network`, and how it learns, `ranker.learning`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmrec_spark.config_section import Section


class NetworkConfig(Section):
    """The shape of a network; kept beside its weights."""

    behaviours: Literal["lstm", "transformer", "text"] = "transformer"  # what reads a history
    width: int = Field(64, ge=4)  # of every vector inside; text vectors are mapped to it
    heads: int = Field(4, ge=1)  # of attention; divides width
    layers: int = Field(1, ge=1)
    dropout: float = Field(0.4, ge=0, lt=1)
    max_behaviours: int = Field(96, ge=1)  # the newest, clicked and skipped together; older ones are not read
    max_position: int = Field(24, ge=1)  # shown positions with a term of their own; later ones share the last

    @model_validator(mode="after")
    def heads_divide_width(self) -> NetworkConfig:
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}, expected a divisor of width {self.width}")
        return self


class AugmentationSettings(Section):
    """How a history is varied each time it is read. All 0: as it was."""

    crop: float = Field(0.0, ge=0, lt=1)  # share that is cut away: a window of the rest remains
    mask: float = Field(0.0, ge=0, lt=1)  # probability that a behaviour does not say which ad it was
    reorder: float = Field(0.0, ge=0, le=1)  # share, a window, whose behaviours change places

    @property
    def is_off(self) -> bool:
        """Nothing is varied."""
        return not (self.crop or self.mask or self.reorder)


class PretrainingSettings(Section):
    """What a network learns from histories alone, before it sees a label of an ad shown."""

    objective: Literal["none", "next", "masked"] = "none"  # next: the ad clicked next; masked: a hidden behaviour's ad
    epochs: int = Field(1, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    mask: float = Field(0.2, gt=0, lt=1)  # probability that a behaviour is hidden, of objective masked
    temperature: float = Field(0.1, gt=0)  # of the cosine between what is expected and an ad


class TrainingSettings(Section):
    """How a network learns. Same settings and data: same weights, killed in between or not."""

    seed: int = 1  # of first weights, dropout and augmentation
    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(2e-3, gt=0)  # of AdamW, at the end of the warm-up
    weight_decay: float = Field(1e-3, ge=0)  # of matrices; not of biases, norms and start vectors
    warmup_share: float = Field(0.1, ge=0, lt=1)  # of all steps; then down to 0 along a cosine
    clip_norm: float | None = Field(1.0, gt=0)  # of a step's whole gradient; null: as it is
    patience: int | None = Field(1, ge=1)  # epochs without a better validation before it stops; null: never
    mixed_precision: bool = False  # bfloat16 where it is safe; a GPU wants it
    list_share: float = Field(1.0, ge=0)  # weight of the list-wise loss beside those of the two probabilities
    adversarial: float = Field(0.0, ge=0)  # FGM: how far each text vector, of length 1, is pushed; 0: not at all
    processes: int = Field(1, ge=1)  # that learn together; more than 1: TorchDistributor starts them
    device: Literal["cpu", "cuda"] = "cpu"  # cuda: each process has a GPU of its own
    checkpoint_steps: int = Field(500, ge=1)  # steps after which a killed training goes on at the latest
    folder: str | None = None  # of checkpoints, a path that all processes reach; null: a killed training begins anew
    augmentation: AugmentationSettings = AugmentationSettings()
    pretraining: PretrainingSettings = PretrainingSettings()

    @field_validator("folder")
    @classmethod
    def folder_is_a_path(cls, folder: str | None) -> str | None:
        if folder is not None and "://" in folder:
            raise ValueError(f"folder is {folder}, expected a path on a disk that all processes mount")
        return folder
