"""What will a shop's customers buy next? Online Retail, split at one moment for everybody.

    spark-submit --properties-file conf/spark-defaults.conf benchmarks/online_retail.py --from FOLDER

All invoices before --date are known. To be found is all that a customer buys in the --days from then on, bought before
or not, and also what was never sold before. Every ranker gives each customer ten of the products sold before, what the
customer has included. Judged are the customers who bought before and in these days.

Recall@10 and nDCG@10 are those of llmrec_spark/metrics.py: found products over all that were bought (so who bought 40
can have .25 at most), and gain 1 over log2(rank + 1) divided by that of the best ten; means over customers. Differences
to the best of the three simple rankers have 95 % intervals of a paired bootstrap over customers.

popularity  what most customers bought in the last --popular-days
repeats     what the customer bought most often, then latest, then the most popular; filled up by popularity
repeats, popular  the same without regard to when
untrained   the product's score before anything is trained
trained     its model, trained on the days before --date by training's own jobs; negatives are drawn
ALS, SASRec of replay-rec 0.22, in an environment of its own (--replay-python, or local/online_retail/replay_env, made
            from benchmarks/online_retail_requirements.txt); --without-replay leaves them out

Settings were chosen with --date 2011-08-01 --days 31 and are judged with what stands here: --date 2011-09-01 --days 30.
README.md has the table. August, nDCG@10: popularity .141, repeats .376, repeats by popularity .388, trained .400.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import online_retail_rankers as rankers
import pandas as pd
from online_retail_rankers import HERE, K
from online_retail_tables import invoices, purchases, refused, shop
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from llmrec_spark.bootstrap import percentiles, poisson_table, user_weights
from llmrec_spark.command_line import day, exit_with
from llmrec_spark.config_files import load_config
from llmrec_spark.events import midnight
from llmrec_spark.metrics import ranking_metrics
from llmrec_spark.session import spark_session
from llmrec_spark.storage import Storage, write_input

METRICS = ("recall", "ndcg")
SIMPLE = ("popularity", "repeats", "repeats, popular")
FOLDER = Path("local/online_retail")


def measures(lists: pd.DataFrame, wanted: pd.DataFrame) -> np.ndarray:
    """METRICS at K of each user of `wanted` (user_id, ad_id, no pair twice), in order of user_id: (U, 2)."""
    users, total = np.unique(wanted["user_id"], return_counts=True)
    listed = lists[lists["user_id"].isin(users)].sort_values(["user_id", "rank"])
    hits = listed.merge(wanted.assign(hit=True), on=["user_id", "ad_id"], how="left")["hit"].notna().to_numpy()
    sizes = listed["user_id"].value_counts().reindex(users, fill_value=0).to_numpy()
    found = ranking_metrics(-listed["rank"].to_numpy(np.float64), hits, sizes, k=K, total=total)
    return np.stack([found[name] for name in METRICS], axis=1)


def with_interval(values: np.ndarray, users: np.ndarray, *, replicates: int, seed: int) -> np.ndarray:
    """Mean over users, lower and upper end of its 95 % interval: values (U, M) -> (3, M); pairs with other values."""
    weights = user_weights(pd.util.hash_array(users + f"\x1f{seed}"), replicates, poisson_table())
    means = (weights @ values) / weights.sum(axis=1)[:, None]
    return np.stack([means[0], *percentiles(means[1:])])


def report(
    lists: dict[str, pd.DataFrame], seconds: dict[str, float], wanted: pd.DataFrame, options: argparse.Namespace
):
    """Prints the table."""
    users = np.unique(wanted["user_id"]).astype(object)
    values = {name: measures(one, wanted) for name, one in lists.items()}
    best = max(SIMPLE, key=lambda name: values[name][:, 1].mean())
    heads = f"{'ranker':<18}{'seconds':>8}{f'Recall@{K}':>11}{f'nDCG@{K}':>9}"
    print(f"\n{heads}   Recall less that of {best:<14}   nDCG less that of {best}")
    for name, one in values.items():
        of_metric = with_interval(one - values[best], users, replicates=options.resamples, seed=options.seed).T
        apart = [f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]" for mean, low, high in of_metric]
        cells = "" if name == best else "   ".join(f"{cell:<30}" for cell in apart)
        recall, ndcg = one.mean(axis=0)
        print(f"{name:<18}{seconds[name]:>8.1f}{recall:>11.4f}{ndcg:>9.4f}   {cells}".rstrip())


def replay_python(given: Path | None) -> Path:
    """The interpreter with replay-rec, installed where none is given."""
    python = given or (FOLDER / "replay_env").absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", FOLDER / "replay_env"], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", HERE / "online_retail_requirements.txt"]
        subprocess.run(install, check=True)
    return python


def judged(lines: DataFrame, events: DataFrame, first: date, days: int) -> pd.DataFrame:
    """user_id, ad_id: what users of `events` bought from `first` on, for so many days."""
    end = first + timedelta(days=days)
    later = lines.where((F.col("InvoiceDate") >= midnight(first)) & (F.col("InvoiceDate") < midnight(end)))
    known = purchases(later).join(events.select("user_id").distinct(), on="user_id", how="left_semi")
    return pd.DataFrame(known.select("user_id", "ad_id").distinct().toPandas())


def main() -> None:
    """Makes the tables, asks every ranker, prints what they found."""
    options = command_line()
    spark = spark_session("online retail")
    folder = FOLDER / str(options.date)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    places = [f"inputs.{name}.path={folder / name}" for name in ("events", "ads")]
    config = load_config(options.config, [*places, f"tables.root={folder / 'tables'}", *options.overrides])
    lines = invoices(spark, options.folder).persist()
    known = shop(lines, before=options.date)
    for name, rows in known._asdict().items():
        write_input(rows, getattr(config.inputs, name))
    bought = pd.DataFrame(known.events.toPandas())
    wanted = judged(lines, known.events, options.date, options.days)
    describe(spark, lines, bought, wanted, options)
    users = pd.Index(np.unique(wanted["user_id"]))
    storage, at = Storage(spark, config.tables), options.date
    lists: dict[str, pd.DataFrame] = {}
    seconds: dict[str, float] = {}

    def ask(name: str, ranker: Callable[[], pd.DataFrame]) -> None:
        started = time.monotonic()
        lists[name] = ranker()
        seconds[name] = time.monotonic() - started

    days = options.popular_days
    ask("popularity", lambda: rankers.popularity(bought, users, as_of=at, days=days))
    for name in SIMPLE[1:]:
        ask(name, lambda name=name: rankers.repeats(bought, users, as_of=at, days=days, latest=name == "repeats"))
    base = rankers.registered(storage, config, folder)
    ask("untrained", lambda: rankers.scored(storage, config, base, on=at))

    def learned() -> pd.DataFrame:
        model = rankers.trained(storage, config, base, as_of=at, folder=folder)
        return rankers.scored(storage, config, model, on=at)

    ask("trained", learned)
    if not options.without_replay:
        bought.to_parquet(folder / "purchases.parquet", index=False)
        python = replay_python(options.replay_python)
        for model in ("ALS", "SASRec"):
            lists[model], seconds[model] = rankers.of_replay(model, python, folder, [])
    report(lists, seconds, wanted, options)


def describe(
    spark: SparkSession, lines: DataFrame, bought: pd.DataFrame, wanted: pd.DataFrame, options: argparse.Namespace
) -> None:
    """Prints what was read, left out, known and wanted."""
    counts = refused(lines)
    print(f"{sum(counts.values()):,} lines: " + ", ".join(f"{rows:,} {name}" for name, rows in sorted(counts.items())))
    print(f"before {options.date}: {len(bought):,} purchases of {bought['ad_id'].nunique():,} products by ", end="")
    print(f"{bought['user_id'].nunique():,} customers; in the {options.days} days from then on ", end="")
    before = set(zip(bought["user_id"], bought["ad_id"], strict=True))
    again = np.mean([pair in before for pair in zip(wanted["user_id"], wanted["ad_id"], strict=True)])
    new = ~wanted["ad_id"].isin(bought["ad_id"])
    print(f"{wanted['user_id'].nunique():,} of them bought {len(wanted):,} products, {again:.0%} again, ", end="")
    print(f"{new.mean():.1%} never bought by anybody before", flush=True)


def command_line() -> argparse.Namespace:
    """The arguments."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--from", dest="folder", type=Path, required=True, help="folder of online_retail.csv.gz")
    options.add_argument("--date", type=day, default=date(2011, 9, 1), help="the moment, 00:00 UTC")
    options.add_argument("--days", type=int, default=30, help="from then on, in which purchases are to be found")
    options.add_argument("--popular-days", type=int, default=28, help="before it, that popularity is counted over")
    options.add_argument("--replay-python", type=Path, help="an interpreter with online_retail_requirements.txt")
    options.add_argument("--without-replay", action="store_true", help="our rankers only")
    options.add_argument("--config", default=HERE.parent / "conf" / "online_retail.yaml")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="repeatable")
    options.add_argument("--resamples", type=int, default=2_000)
    options.add_argument("--seed", type=int, default=1, help="of the bootstrap")
    return options.parse_args()


if __name__ == "__main__":
    exit_with(main)
