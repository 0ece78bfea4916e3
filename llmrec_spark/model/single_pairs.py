"""The match of single pairs given as text, for serving: no tables, no precomputed vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.ad_encoder import AdEncoder
from llmrec_spark.model.behaviour_encoder import encode_histories
from llmrec_spark.model.catalogue import build_catalogue
from llmrec_spark.model.checkpoint import Model
from llmrec_spark.model.match import Parameters, match_pairs
from llmrec_spark.texts import field_keywords, field_text, text_hash

Ad = Mapping[str, Any]  # text field -> a text or a list of phrases


def match_rows(model: Model, encoder: AdEncoder, rows: Sequence[tuple[Sequence[Ad], Ad]]) -> list[float]:
    """match of each (behaviours, ad), with the default temperatures and no priors; NaN where there is no text."""
    ads = [*(behaviour for behaviours, _ in rows for behaviour in behaviours), *(ad for _, ad in rows)]
    names = [f"{number:09d}" for number in range(len(ads))]
    texts = pd.DataFrame(
        [
            (name, field, text, text_hash(text), field_keywords(field, phrases))
            for name, ad in zip(names, ads, strict=True)
            for field in model.config.fields
            if (phrases := _phrases(ad.get(field))) and (text := field_text(phrases))
        ],
        columns=["ad_id", "field", "text", "text_hash", "keywords"],
    )
    distinct = texts.drop_duplicates("text_hash")
    encoded = encoder.encode(distinct["text"].tolist(), 4_096).vectors
    catalogue = build_catalogue(
        texts.drop(columns="text"),
        pd.DataFrame({"query_hash": [], "keywords": []}),
        pd.Series([vector.tobytes() for vector in encoded], index=distinct["text_hash"], dtype=object),
        ad_ids=names,
        live=names,
        behaved=names,
        fields=model.config.fields,
        centre=model.centre,
        frequency=model.document_frequency,
        documents=model.documents,
    )
    lengths = [len(behaviours) for behaviours, _ in rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    histories = encode_histories(
        pd.DataFrame(
            {
                "ad_ids": [names[start:end] for start, end in pairwise(starts)],
                "query_hashes": [[None] * length for length in lengths],
                "log_priors": [[0.0] * length for length in lengths],
            }
        ),
        catalogue,
    )
    parameters = Parameters.of(MatchConfig())
    shown = starts[-1] + np.arange(len(rows))
    return [
        float(match_pairs(catalogue, histories, row, shown[row : row + 1], parameters, "cpu").match[0])
        for row in range(len(rows))
    ]


def _phrases(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
