"""A small world of two kinds of ads and of users who like one: what tests of trained rankers share."""

import numpy as np
import pandas as pd

from llmrec_spark.model.catalogue import save_figures
from llmrec_spark.model.taste_scoring import TrainedAds
from llmrec_spark.model.training_sample import Totals
from llmrec_spark.ranker_config import RankerConfig

ADS, USERS, DAYS, SHOWN = 40, 120, 6, 8
SETTINGS = RankerConfig(kernel_lists=2_000, text_rank=4)
HISTORY = ("shown_ads", "clicked", "age_days", "weights", "residuals")
NOBODY = pd.DataFrame({"user_id": ["new"], "level": [np.nan], **{name: [None] for name in HISTORY}})


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def totals_of(examples):
    item, clicked, bought = examples.item, examples.clicked * examples.trains, np.nan_to_num(examples.converted)
    return Totals(*(np.bincount(item, one, ADS) for one in (examples.trains, clicked, clicked, clicked * bought)))


def ads_of(ranker, world, log, folder):
    world.catalogue().save(folder / "catalogue")
    ranker.save(folder / "ranker")
    clicked = {"clicks": ("clicked", "sum"), "settled": ("clicked", "sum"), "converted": ("converted", "sum")}
    figures = log[0].groupby("item").agg(shown=("user", "size"), **clicked)
    figures = figures.reindex(range(ADS), fill_value=0).assign(
        ad_id=world.catalogue().ad_ids, length=np.arange(ADS), maker=(np.arange(ADS) // 2 % 5).astype(str)
    )
    save_figures(
        folder / "catalogue", world.catalogue(), figures, ranker=folder / "ranker", columns=["length"], groups=["maker"]
    )
    return TrainedAds(str(folder / "catalogue"))


def requests(log, users):
    rows, *_ = log
    found = []
    for user in users:
        own = rows[rows.user == user]
        names = [f"ad{n:02d}" for n in own["item"]]
        ages = (DAYS - own["day"]).astype(float).tolist()
        found.append((f"u{user}", names, own["clicked"].tolist(), own["position"].tolist(), ages))
    return pd.DataFrame(found, columns=["user_id", "shown_ads", "clicked", "positions", "age_days"])


def with_tastes(ads, batch):
    return batch.merge(ads.tastes(batch), on="user_id", how="left")
