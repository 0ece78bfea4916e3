"""Ten products for each customer of Online Retail: by simple rules, by the product's jobs, by replay-rec's models.

A ranker's lists are rows of user_id, ad_id, rank (from 1).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pandas as pd

from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import read_inputs
from llmrec_spark.daily_runs import check_model, new_run
from llmrec_spark.daily_scoring import score_day
from llmrec_spark.model_cards import model_card
from llmrec_spark.model_registration import encoder_folder, write_model_of_ads
from llmrec_spark.model_training import train
from llmrec_spark.registry import ResolvedModel, resolve_model
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RANKINGS

K = 10
HERE = Path(__file__).parent


def popularity(bought: pd.DataFrame, users: pd.Index, *, as_of: date, days: int) -> pd.DataFrame:
    """The products that most customers bought in the last days, for everybody: bought user_id, ad_id, event_ts."""
    return users.to_frame(name="user_id", index=False).merge(_popular(bought, as_of, days).head(K), how="cross")


def repeats(bought: pd.DataFrame, users: pd.Index, *, as_of: date, days: int, latest: bool) -> pd.DataFrame:
    """What the customer bought most often, then (if `latest`) latest, then the most popular; filled up by popularity.

    Many things are bought once, in one invoice: what orders these decides much.
    """
    popular = _popular(bought, as_of, days).rename(columns={"rank": "place"})
    own = bought[bought["user_id"].isin(users)].groupby(["user_id", "ad_id"])["event_ts"].agg(["size", "max"])
    rest = users.to_frame(name="user_id", index=False).merge(popular.head(2 * K)[["ad_id"]], how="cross")
    both = pd.concat([own.reset_index(), rest.assign(size=0, max=pd.Timestamp(0))])
    both = both.drop_duplicates(["user_id", "ad_id"]).merge(popular, on="ad_id", how="left")
    order = {"user_id": True, "size": False, **({"max": False} if latest else {}), "place": True, "ad_id": True}
    both = both.sort_values(list(order), ascending=list(order.values()))
    return both.assign(rank=both.groupby("user_id").cumcount() + 1).query("rank <= @K")[["user_id", "ad_id", "rank"]]


def _popular(bought: pd.DataFrame, as_of: date, days: int) -> pd.DataFrame:
    recent = bought[bought["event_ts"] >= pd.Timestamp(as_of) - pd.Timedelta(days=days)]
    customers = recent.groupby("ad_id")["user_id"].nunique().reset_index(name="customers")
    ordered = customers.sort_values(["customers", "ad_id"], ascending=[False, True])
    return ordered[["ad_id"]].assign(rank=range(1, len(ordered) + 1))


def registered(storage: Storage, config: Config, folder: Path) -> ResolvedModel:
    """The encoder with the ads' keywords, as jobs/register_model.py writes it; nothing is trained."""
    encoder, settings = encoder_folder(config.encoding.encoder, config.encoding.settings, folder)
    name = config.encoding.encoder
    write_model_of_ads(storage, config, encoder=encoder, settings=settings, name=name, folder=folder / "untrained")
    return resolve_model(str(folder / "untrained"), config.mlflow)


def trained(storage: Storage, config: Config, base: ResolvedModel, *, as_of: date, folder: Path) -> ResolvedModel:
    """A model that learned from the days before, as jobs/train_model.py writes it."""
    from llmrec_spark.model.checkpoint import write_trained_model

    inputs = read_inputs(storage, config)
    training = train(storage, config, inputs, base, as_of=as_of, until=None, scratch=folder)
    write_trained_model(
        folder / "trained",
        base.folder,
        training.trained.ranker.save,
        settings=config.ranker,
        conversion_days=config.training.conversion_days,
        card=model_card(training, config, f"model {base.version}", inputs.versions),
    )
    shutil.rmtree(folder / "catalogue")
    return resolve_model(str(folder / "trained"), config.mlflow)


def scored(storage: Storage, config: Config, model: ResolvedModel, *, on: date) -> pd.DataFrame:
    """The lists of a day as jobs/score_daily.py makes them."""
    inputs = read_inputs(storage, config)
    check_model(model, config, inputs)
    run = new_run(storage, config, on, inputs, model)
    score_day(storage, config, inputs, model, run)
    return pd.DataFrame(storage.read_run(RANKINGS, run.run_id).select("user_id", "ad_id", "rank").toPandas())


def of_replay(model: str, python: Path, folder: Path, settings: list[str]) -> tuple[pd.DataFrame, float]:
    """The lists of a model of replay-rec, from `purchases.parquet` in the folder, and the seconds it took."""
    command = [python, HERE / "online_retail_replay.py", model, folder, *settings]
    around = {**os.environ, "PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python)}
    for name in ("PYTHONPATH", "SPARK_HOME", "SPARK_CONF_DIR", "SPARK_ENV_LOADED", "PYSPARK_GATEWAY_PORT"):
        around.pop(name, None)
    done = subprocess.run([*map(str, command)], env=around, stdout=subprocess.PIPE, text=True, check=True)
    return pd.read_parquet(folder / f"{model}.parquet"), json.loads(done.stdout.splitlines()[-1])["seconds"]
