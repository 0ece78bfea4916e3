"""One side of benchmarks/online_retail.py, in an environment of its own: ALS or SASRec of replay-rec 0.22.

    python benchmarks/online_retail_replay.py ALS|SASRec FOLDER [KEY=VALUE ...]

Reads FOLDER/purchases.parquet (user_id, ad_id, event_ts), writes the ten best products of every customer to
FOLDER/ALS.parquet or FOLDER/SASRec.parquet (user_id, ad_id, rank), bought before or not, and prints the seconds of the
whole: from file to file. KEY=VALUE changes a setting.

Tried on --date 2011-08-01 --days 31, nDCG@10: ALS of rank 32, 128 and 256 .293, .332 and .337, without counts .279 and
.303 (32, 128); SASRec of 1 and 12 epochs at a rate of .001 .125 and .126, of 10 at .003 .117 (Recall@10 .055, .063,
.063). In September the last of these was run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

K = 10
ALS = {"rank": 256, "counts": 1}  # counts: how often a product was bought is its rating, else 1
SASREC = {"width": 64, "heads": 2, "blocks": 2, "longest": 100, "dropout": 0.3, "epochs": 10, "batch": 64, "rate": 3e-3}


def als(user: np.ndarray, item: np.ndarray, settings: dict[str, float]) -> np.ndarray:
    """(U, K) items by ALSWrap: user and item (n,) codes from 0 of purchases in order of time."""
    from pyspark.sql import SparkSession
    from replay.data import Dataset, FeatureHint, FeatureInfo, FeatureSchema, FeatureType
    from replay.models import ALSWrap

    spark = (
        SparkSession.builder.appName("online retail")
        .config("spark.driver.memory", "2g")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    pairs = pd.DataFrame({"user_id": user, "item_id": item}).value_counts().reset_index(name="rating")
    if not settings["counts"]:
        pairs["rating"] = 1
    schema = FeatureSchema(
        [
            FeatureInfo("user_id", FeatureType.CATEGORICAL, FeatureHint.QUERY_ID),
            FeatureInfo("item_id", FeatureType.CATEGORICAL, FeatureHint.ITEM_ID),
            FeatureInfo("rating", FeatureType.NUMERICAL, FeatureHint.RATING),
        ]
    )
    dataset = Dataset(schema, spark.createDataFrame(pairs.astype({"rating": float})), categorical_encoded=True)
    model = ALSWrap(rank=int(settings["rank"]), implicit_prefs=True, seed=1)
    model.fit(dataset)
    found = model.predict(dataset, K, filter_seen_items=False).toPandas()
    spark.stop()
    found = found.sort_values(["user_id", "rating", "item_id"], ascending=[True, False, True])
    return found["item_id"].to_numpy().reshape(-1, K)


def sasrec(user: np.ndarray, item: np.ndarray, settings: dict[str, float]) -> np.ndarray:
    """(U, K) items by SasRec with cross-entropy over all items; a long history is several sequences, the end first."""
    import lightning
    import torch
    from replay.data import FeatureHint, FeatureSource, FeatureType
    from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
    from replay.nn.lightning import LightningModule
    from replay.nn.lightning.optimizer import OptimizerFactory
    from replay.nn.sequential.sasrec import SasRec

    items, longest = int(item.max()) + 1, int(settings["longest"])
    lightning.seed_everything(1, verbose=False)
    feature = TensorFeatureInfo(
        "item_id",
        FeatureType.CATEGORICAL,
        is_seq=True,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
        cardinality=items,
        padding_value=items,
        embedding_dim=int(settings["width"]),
    )
    network = SasRec.from_params(
        TensorSchema([feature]),
        embedding_dim=int(settings["width"]),
        num_heads=int(settings["heads"]),
        num_blocks=int(settings["blocks"]),
        max_sequence_length=longest,
        dropout=settings["dropout"],
    )
    histories = np.split(item, np.flatnonzero(np.diff(user)) + 1)  # user ascends
    parts = [
        one[max(end - longest - 1, 0) : end]
        for one in histories
        for end in range(len(one), 1, -longest)
        if len(one[max(end - longest - 1, 0) : end]) > 1
    ]

    def padded(sequences: list[np.ndarray]) -> torch.Tensor:
        width = max(map(len, sequences))  # positions count from the end
        table = np.full((len(sequences), width), items, dtype=np.int64)
        for row, one in enumerate(sequences):
            table[row, width - len(one) :] = one
        return torch.as_tensor(table)

    def batch_of(rows: torch.Tensor) -> dict[str, object]:
        asked = rows[:, 1:, None]
        return {
            "feature_tensors": {"item_id": rows[:, :-1]},
            "padding_mask": rows[:, :-1] != items,
            "positive_labels": asked,
            "negative_labels": None,
            "target_padding_mask": asked != items,
        }

    by_length = np.argsort([len(one) for one in parts], kind="stable")
    batches = np.array_split(by_length, -(-len(parts) // int(settings["batch"])))
    tables = [padded([parts[place] for place in batch]) for batch in batches]  # of alike lengths: little padding
    loader = torch.utils.data.DataLoader(tables, batch_size=None, shuffle=True, collate_fn=batch_of)
    trainer = lightning.Trainer(
        max_epochs=int(settings["epochs"]),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LightningModule(network, OptimizerFactory(learning_rate=settings["rate"])), loader)
    network.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(histories), 256):
            rows = padded([one[-longest:] for one in histories[start : start + 256]])
            logits = network({"item_id": rows}, rows != items)["logits"]
            found.append(logits[:, :items].topk(K, dim=1).indices.numpy())
    return np.concatenate(found)


def main() -> None:
    """Reads, asks the model, writes, prints the seconds."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    model: Callable[[np.ndarray, np.ndarray, dict[str, float]], np.ndarray]
    model, settings = {"ALS": (als, ALS), "SASRec": (sasrec, SASREC)}[name]
    changed = {key: float(value) for key, value in (one.split("=") for one in sys.argv[3:])}
    started = time.perf_counter()
    bought = pd.read_parquet(folder / "purchases.parquet").sort_values(["user_id", "event_ts", "event_id"])
    user, users = pd.factorize(bought["user_id"], sort=True)
    item, items = pd.factorize(bought["ad_id"], sort=True)
    found = model(user, item, settings | changed)
    lists = pd.DataFrame({"user_id": users.repeat(K), "ad_id": items[found.ravel()]})
    lists.assign(rank=np.tile(np.arange(1, K + 1), len(users))).to_parquet(folder / f"{name}.parquet", index=False)
    print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
