"""The ranker that training adds to a model: an effect of each ad, a taste of each user, calibrated probabilities.

    log_odds(u, a) = level_u + c_1 + b_a + taste_u(a)                  at the first position; or, of the best ads by it,
                     level_u + c_1 + what a reranker makes of both and of their features
    p_click        = sigmoid(slope first + of_rerank (log_odds - first) + intercept + of_position (c - c_1)),
                     first = level_u + c_1 + b_a + taste_u(a)
    p_conversion   = sigmoid(w . (1, b'_a, taste_u(a)))                given a click; both on a rising curve, if asked

b from counts and text (count_effects), taste from a Gaussian process over the user's clicks and skips (taste_gp), the
probabilities by logistic regression (calibration). In a model's folder it is `ranker/`: ranker.json,
ranker.safetensors and a reranker's files, numbers alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec_spark.model.ad_reader import AdReader
from llmrec_spark.model.count_effects import EffectModel
from llmrec_spark.model.isotonic import on_knots
from llmrec_spark.model.item_effect import sigmoid
from llmrec_spark.model.pair_kernels import ItemFeatures
from llmrec_spark.model.prior_features import PriorFeatures
from llmrec_spark.model.reranker import Reranker, open_reranker
from llmrec_spark.model.ridge_prior import RidgePrior
from llmrec_spark.model.taste_gp import Level

P_CLICK, P_CONVERSION = "p_click", "p_conversion"
CURVE = "curve of "  # begins the name of an array
LINE = np.zeros((2, 0))  # no curve


@dataclass(frozen=True)
class TasteRanker:
    """Everything learned."""

    reader: AdReader
    theta: Mapping[str, float]  # ln of the weight of each kernel
    click: EffectModel
    conversion: EffectModel
    positions: np.ndarray  # (P,) c of positions 1 to P, in log-odds
    level: Level
    p_click: tuple[float, float, float, float]  # slope, intercept, of_position, of_rerank
    p_conversion: tuple[float, float, float] | None  # intercept, of b', of taste; None: no conversion was ever seen
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)  # (2, m) of isotonic, by probability
    rerank: Reranker | None = None  # of the best ads by b + taste

    def weights(self, features: ItemFeatures) -> np.ndarray:
        """(F,) exp(theta) in the order of the features' kernels."""
        return np.asarray(np.exp([self.theta[name] for name in features.names]))

    @property
    def variances(self) -> dict[str, float]:
        """exp(theta) by kernel: the prior variance of taste that is due to it, for an ad as alike as can be."""
        return {name: float(np.exp(one)) for name, one in self.theta.items()}

    def position(self, place: np.ndarray) -> np.ndarray:
        """c of places (n,), as by_position has them."""
        return by_position(self.positions, place)

    def clicks(
        self, log_odds: np.ndarray, place: np.ndarray | None = None, *, moved: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """p_click of log_odds, of which `moved` is the reranker's; where the ad stands at `place`, or else first."""
        slope, intercept, of_position, of_rerank = self.p_click
        shift = 0.0 if place is None else of_position * (self.position(place) - self.position(np.ones(1)))
        found = sigmoid(slope * (log_odds - moved) + of_rerank * moved + intercept + shift)
        return on_knots(self.curves.get(P_CLICK, LINE), found)

    def conversions(self, effect: np.ndarray, taste: np.ndarray) -> np.ndarray:
        """p_conversion, given a click, of b' and taste; NaN where it is not known."""
        if self.p_conversion is None:
            return np.full(np.broadcast(effect, taste).shape, np.nan)
        intercept, of_effect, of_taste = self.p_conversion
        found = sigmoid(intercept + of_effect * effect + of_taste * taste)
        return on_knots(self.curves.get(P_CONVERSION, LINE), found)

    def save(self, folder: Path) -> None:
        """Writes its files into a new folder."""
        folder.mkdir(parents=True)
        numbers = {
            "fields": self.reader.fields,
            "columns": self.reader.columns,
            "groups": self.reader.groups,
            "neighbours": self.reader.neighbours,
            "theta": self.theta,
            "level": self.level._asdict(),
            "p_click": self.p_click,
            "p_conversion": self.p_conversion,
            **{name: _numbers(getattr(self, name)) for name in ("click", "conversion")},
        }
        (folder / "ranker.json").write_text(json.dumps(numbers, ensure_ascii=False, indent=1), encoding="utf-8")
        reader = self.reader
        arrays = {"centres": reader.centres, "components": reader.projection.components, "positions": self.positions}
        for name in ("click", "conversion"):
            prior = getattr(self, name).prior
            arrays |= {f"{name}.mean": prior.mean, f"{name}.weights": prior.weights}
        arrays |= {f"{CURVE}{name}": knots for name, knots in self.curves.items()}
        save_file({name: np.ascontiguousarray(one) for name, one in arrays.items()}, folder / "ranker.safetensors")
        (folder / "ranker.safetensors").chmod(0o644)  # safetensors lets only the owner read
        if self.rerank is not None:
            self.rerank.save(folder)


def by_position(positions: np.ndarray, place: np.ndarray) -> np.ndarray:
    """c of places (n,) from 1, the last one's beyond those learned; 0 where unknown (NaN or 0)."""
    table = np.append(0.0, positions)
    return np.asarray(table[np.clip(np.nan_to_num(place, nan=0.0), 0, len(positions)).astype(np.int64)])


def _numbers(model: EffectModel) -> dict[str, float]:
    return {"base": model.base, "spread": model.spread, "intercept": model.prior.intercept}


@lru_cache(maxsize=2)
def open_taste_ranker(folder: str) -> TasteRanker:
    """The ranker that `save` wrote."""
    numbers = json.loads((Path(folder) / "ranker.json").read_bytes())
    arrays = load_file(Path(folder) / "ranker.safetensors")
    effects = {
        name: EffectModel(
            numbers[name]["base"],
            numbers[name]["spread"],
            RidgePrior(arrays[f"{name}.mean"], arrays[f"{name}.weights"], numbers[name]["intercept"]),
        )
        for name in ("click", "conversion")
    }
    return TasteRanker(
        reader=AdReader(
            fields=tuple(numbers["fields"]),
            centres=arrays["centres"],
            columns={name: (mean, spread) for name, (mean, spread) in numbers["columns"].items()},
            groups=tuple(numbers["groups"]),
            projection=PriorFeatures(arrays["components"]),
            neighbours=numbers.get("neighbours"),  # of a ranker from before there were any: None
        ),
        theta=numbers["theta"],
        positions=arrays["positions"],
        level=Level(**numbers["level"]),
        p_click=(*numbers["p_click"], numbers["p_click"][0])[:4],  # three before there were rerankers: one slope
        p_conversion=None if numbers["p_conversion"] is None else tuple(numbers["p_conversion"]),
        curves={name.removeprefix(CURVE): one for name, one in arrays.items() if name.startswith(CURVE)},
        rerank=open_reranker(Path(folder)),
        **effects,
    )
