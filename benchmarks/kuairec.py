"""Does an encoder understand Chinese? Nearest neighbours among KuaiRec captions, by c, share the category or not.

    python benchmarks/kuairec.py --from FOLDER --encoder multilingual

3,000 captions with a first-level category, the smallest md5 of the video id; the caption is the title of an ad.
Prints the share whose nearest other caption has the same category: by encoder, by keywords, and by c.
"""

import argparse
import hashlib
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.ad_encoder import load_ad_encoder
from llmrec_spark.model.catalogue import build_catalogue
from llmrec_spark.model.embedded import restore_embedded_encoder
from llmrec_spark.model.match import Parameters, pair_parts
from llmrec_spark.texts import field_keywords, normalise, text_hash

CAPTIONS = 3_000


def captions(folder: Path) -> pd.DataFrame:
    """ad_id, text, category of the sample."""
    rows = pd.read_parquet(folder / "kuairec_caption_category.parquet")
    rows = rows.assign(ad_id=rows["video_id"].astype(str), text=rows["caption"].fillna("").map(normalise))
    known = rows["first_level_category_name"].notna() & ~rows["first_level_category_name"].isin(["UNKNOWN", ""])
    rows = rows[(rows["text"] != "") & known]
    order = rows["ad_id"].map(lambda one: hashlib.md5(one.encode()).hexdigest())
    return rows.assign(category=rows["first_level_category_name"]).iloc[order.argsort()[:CAPTIONS]]


def main() -> None:
    """Encodes the captions and prints the three shares beside chance."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--from", dest="folder", type=Path, required=True)
    options.add_argument("--encoder", choices=("minilm", "multilingual"), default="multilingual")
    arguments = options.parse_args()
    rows = captions(arguments.folder).sort_values("ad_id", ignore_index=True)
    texts = rows[["ad_id"]].assign(
        field="title",
        text_hash=rows["text"].map(text_hash),
        keywords=rows["text"].map(lambda t: field_keywords("title", [t])),
    )
    with tempfile.TemporaryDirectory() as scratch:
        settings = restore_embedded_encoder(arguments.encoder, Path(scratch) / "encoder")
        encoder = load_ad_encoder(str(Path(scratch) / "encoder"), settings, "cpu")
        started = time.monotonic()
        encoded = encoder.encode(rows["text"].tolist(), 1_024)
    seconds = time.monotonic() - started
    vectors = pd.Series([v.tobytes() for v in encoded.vectors], index=texts["text_hash"], dtype=object)
    frequency = Counter(word for keywords in texts["keywords"] for word in set(keywords))
    ids = rows["ad_id"].tolist()
    catalogue = build_catalogue(
        texts,
        pd.DataFrame({"query_hash": [], "keywords": []}),
        vectors[~vectors.index.duplicated()],
        ad_ids=ids,
        live=ids,
        behaved=ids,
        fields=("title",),
        centre={"title": encoded.vectors.mean(axis=0)} if settings.centred else None,
        frequency=frequency,
        documents=len(rows),
    )
    every = np.arange(len(rows))
    parts = pair_parts(catalogue, every, every, Parameters.of(MatchConfig()), "cpu").numpy()  # (n, 2, n)
    category = rows["category"].to_numpy()
    print(f"{len(rows)} captions, {arguments.encoder}, {len(rows) / seconds:.0f} texts/s, ", end="")
    print(f"{np.average(encoded.unknown_share, weights=encoded.tokens):.0%} of the tokens unknown")
    for name, nearness in (("encoder", parts[:, 0]), ("keywords", parts[:, 1]), ("c", parts.sum(axis=1))):
        np.fill_diagonal(nearness, -np.inf)
        print(f"{name:<9} {np.mean(category[nearness.argmax(axis=1)] == category):.3f}")
    shares = rows["category"].value_counts(normalize=True)
    print(f"{'chance':<9} {float((shares**2).sum()):.3f}")


if __name__ == "__main__":
    main()
