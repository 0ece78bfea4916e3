"""A ranker that learned from 60 lists of people who each click one of two kinds of ads, the even or the odd ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from llmrec_spark.model.ad_reader import Names
from llmrec_spark.model.taste_training import train_taste_ranker
from llmrec_spark.model.training_sample import Examples, ShownBefore, Totals
from llmrec_spark.ranker_config import RankerConfig
from tests.model.catalogues import World, unit


def text_of_kinds(kinds: Sequence[int] | np.ndarray, width: int = 2) -> np.ndarray:
    """(width,) the vector of a text that names ads of these kinds, 0 or 1; 0 where it names none."""
    vector = np.zeros(width, dtype="<f4")
    if len(kinds):
        vector[:2] = np.mean([unit(1 if kind else -1, 0.3) for kind in kinds], axis=0)
    return vector


def learn_kinds(world: World, settings: RankerConfig, folder: Path) -> pd.DataFrame:
    """Writes the ranker for the ads of a world, twelve or more; returns ad_id and what of it was COUNTED."""
    catalogue, ads = world.catalogue(), len(world.ads)
    rng, lists, before = np.random.default_rng(2), [], []
    for number in range(60):
        items = rng.permutation(ads)[:12]
        clicked = rng.random(12) < np.where(items % 2 == number % 2, 0.7, 0.1)
        lists.append((np.full(6, number), items[:6], np.arange(1.0, 7.0), clicked[:6]))
        before.append((items[6:], clicked[6:]))
    number, item, position, clicked = (np.concatenate(part) for part in zip(*lists, strict=True))
    shown, clicks = (np.bincount(item, one, ads) for one in (np.ones(len(item)), clicked))
    converted = np.where(clicked, (item % 3 == 0).astype(float), 0.0)
    every = np.ones(len(item), dtype=bool)
    known = Examples(
        number, number, item, position, clicked, converted, shown[item], clicks[item], every, ~every, 0.0 * item
    )
    texts = [[text_of_kinds(items[of] % 2, catalogue.vectors.shape[1]) for of in (did, ~did)] for items, did in before]
    history = ShownBefore(
        *(np.concatenate(part) for part in zip(*before, strict=True)),
        np.ones(360),
        np.arange(61) * 6,
        np.ones(360),
        np.array(texts),
    )
    totals = Totals(shown, clicks, clicks, np.bincount(item, converted, ads))
    trained = train_taste_ranker(catalogue, world.fields, np.empty((ads, 0)), Names(), known, history, totals, settings)
    trained.ranker.save(folder)
    counts = {"shown": shown, "clicks": clicks, "settled": totals.settled, "converted": totals.conversions}
    return pd.DataFrame({"ad_id": list(world.ads), **counts})
