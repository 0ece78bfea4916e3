"""What `search:` in a YAML file of conf/ may say: which settings of `ranker:` are tried, and from where to where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from llmrec_spark.config_section import Section
from llmrec_spark.ranker_config import RankerConfig

COLUMN = "column "  # begins the name of a parameter: whether the column or group is read


class SearchConfig(Section):
    """`search:` what `jobs/train_model.py --search` tries beside what `ranker` says; null: nothing else.

    Positions are not tried: the clicks that judge a trial are moved by them too. A larger kernel_lists or max_lists is
    no worse, only slower.
    """

    folder: str = "local/search"  # on this machine's disk: a sqlite file for each training set and these settings
    effect_spread: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = (0.15, 2.0)
    text_rank: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = (20, 300)
    rerank: tuple[tuple[str, ...], ...] = ((), ("linear",), ("trees",), ("linear", "trees"))
    leave_out: bool = True  # each of ranker.columns and ranker.groups
    seed: int = 1

    @model_validator(mode="after")
    def ranges_rise(self) -> SearchConfig:
        for key in ("effect_spread", "text_rank"):
            ends = getattr(self, key)
            if ends is not None and ends[0] >= ends[1]:
                raise ValueError(f"{key} is {list(ends)}, expected [smallest, largest]")
        for one in self.rerank:
            RankerConfig.model_validate({"rerank": one})
        return self


def as_parameters(ranker: RankerConfig) -> dict[str, Any]:
    """The settings that can be searched, as a table or MLflow has them: plain values by name."""
    names = (*ranker.columns, *ranker.groups)
    plain = {"effect_spread": ranker.effect_spread, "text_rank": ranker.text_rank, "rerank": " ".join(ranker.rerank)}
    return {**plain, **{f"{COLUMN}{name}": True for name in names}}


def with_parameters(ranker: RankerConfig, parameters: Mapping[str, Any]) -> RankerConfig:
    """`ranker` with these of its settings, as as_parameters names them."""
    changed = {name: value for name, value in parameters.items() if not name.startswith(COLUMN)}
    if "effect_spread" in changed:
        changed["effect_spread"] = float(f"{changed['effect_spread']:.3g}")  # more digits say nothing
    if "rerank" in changed:
        changed["rerank"] = tuple(changed["rerank"].split())
    for kind in ("columns", "groups"):
        changed[kind] = tuple(name for name in getattr(ranker, kind) if parameters.get(f"{COLUMN}{name}", True))
    return RankerConfig.model_validate(ranker.model_dump() | changed)
