"""What `ranker:` in a YAML file of conf/ may say: what training learns from its examples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmrec_spark.config_section import Section
from llmrec_spark.network_config import NetworkConfig, TrainingSettings

KEPT_AT: dict[str, set[str]] = {"learning": {"folder"}}  # of RankerConfig: says where things are, decides nothing


class RankerConfig(Section):
    """`ranker:` the effect of each ad, the taste of each user, and how both become probabilities."""

    effect_spread: float = Field(0.6, gt=0)  # prior standard deviation of an ad's own pull, in log-odds
    text_rank: int = Field(150, ge=0)  # numbers that the texts of an ad are made narrow to, to expect its pull; 0: none
    columns: tuple[str, ...] = ()  # of `ads`, numbers, counts as logarithms: users like one end of them, or near ones
    groups: tuple[str, ...] = ()  # of `ads`, words such as category or advertiser_id: those of one value are alike
    neighbours: Literal["co_click", "ease", "als"] | None = None  # also alike: ads that the same people acted on
    rerank: tuple[Literal["linear", "trees", "network"], ...] = ()  # rankers of a taste's best ads, stacked with it
    positions: bool = True  # take positions out of clicks; false where they say nothing, or a user ranks them anew
    calibration: Literal["platt", "isotonic"] = "platt"  # isotonic: Platt's, then on a rising curve
    kernel_lists: int = Field(6_000, ge=32)  # that the weights of the kernels are learned from
    max_lists: int = Field(20_000, ge=32)  # of each of train, validation and test in memory, chosen by a hash
    network: NetworkConfig = NetworkConfig()  # of `rerank: [network]`
    learning: TrainingSettings = TrainingSettings()  # of the network
    seed: int = 1

    @model_validator(mode="after")
    def rerank_names_each_once(self) -> RankerConfig:
        if len(set(self.rerank)) < len(self.rerank):
            raise ValueError(f"rerank is {list(self.rerank)}, expected each once")
        return self

    @model_validator(mode="after")
    def texts_have_no_single_behaviours(self) -> RankerConfig:
        learning, reads = self.learning, self.network.behaviours
        if reads == "text" and learning.pretraining.objective != "none":
            raise ValueError(
                f"learning.pretraining.objective is {learning.pretraining.objective}, which guesses single behaviours; "
                "expected none where network.behaviours is text"
            )
        if reads == "text" and not learning.augmentation.is_off:
            raise ValueError(
                f"learning.augmentation is {learning.augmentation.model_dump()}, which varies single behaviours; "
                "expected 0 of each where network.behaviours is text"
            )
        return self

    @property
    def reads_texts(self) -> bool:
        """Whether it reads histories as a language model does."""
        return "network" in self.rerank and self.network.behaviours == "text"
