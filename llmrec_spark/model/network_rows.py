"""Rows of a table of examples, one per list -> a batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from llmrec_spark.errors import DataError
from llmrec_spark.model.network_batches import KINDS, Batch, Behaviours

OF_BEHAVIOURS: Mapping[str, type[np.generic]] = {
    "items": np.int64,
    "kinds": np.int64,
    "residuals": np.float32,
    "age_days": np.float32,
}
OF_ADS: Mapping[str, type[np.generic]] = {
    "items": np.int64,
    "positions": np.int64,
    "offsets": np.float32,
    "conversion_offsets": np.float32,
    "clicked": np.bool_,
    "converted": np.bool_,
    "conversion_known": np.bool_,
}


def batch_of_rows(rows: pd.DataFrame, *, max_behaviours: int, text_width: int) -> Batch:
    """The lists of `rows` in their order, as `pyarrow.RecordBatch.to_pandas` gives them.

    example                                     int64
    behaviour_items, _kinds, _residuals, _age_days  arrays of one length, oldest first; NULL is empty
    items, positions, offsets, conversion_offsets, clicked, converted, conversion_known   arrays of one length
    clicks_text, skips_text                     bytes (D float32) or NULL; may be left out

    Of a longer history the newest `max_behaviours` are kept. Raises DataError where lengths or kinds cannot be.
    """
    history, taken = padded_columns(rows, "behaviour_", OF_BEHAVIOURS, keep_last=max_behaviours)
    if bool(((history["kinds"] < 0) | (history["kinds"] >= len(KINDS))).any()):
        raise DataError(f"examples: a kind of behaviour is outside 0 to {len(KINDS) - 1}, expected one of {KINDS}.")
    ads, present = padded_columns(rows, "", OF_ADS, keep_last=None)
    texts = torch.zeros(len(rows), 2, text_width)
    for place, name in enumerate(("clicks_text", "skips_text")):
        for row, vector in enumerate(rows.get(name, pd.Series(dtype=object))):
            if vector is not None:
                texts[row, place] = torch.from_numpy(np.frombuffer(vector, dtype="<f4").copy())
    return Batch(
        examples=torch.from_numpy(rows["example"].to_numpy(dtype=np.int64, copy=True)),
        behaviours=Behaviours(**history, present=taken, hidden=torch.zeros_like(taken)),
        texts=texts,
        present=present,
        **ads,
    )


def padded_columns(
    rows: pd.DataFrame, prefix: str, columns: Mapping[str, type[np.generic]], *, keep_last: int | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Each column of arrays as (B, L), padded on the right with 0, and what is present, (B, L) bool; L the longest."""
    lengths: np.ndarray | None = None
    padded = {}
    for name, dtype in columns.items():
        filled = [() if one is None else one for one in rows[prefix + name]]
        arrays: list[np.ndarray] = [np.asarray(one, dtype=dtype)[-(keep_last or 0) :] for one in filled]
        found = np.array([len(one) for one in arrays], dtype=np.int64)
        if lengths is not None and not np.array_equal(found, lengths):
            row = int(np.flatnonzero(found != lengths)[0])
            raise DataError(
                f"examples {rows['example'].iloc[row]}: {prefix}{name} has {found[row]} values, expected "
                f"{lengths[row]} as {prefix}{next(iter(columns))}."
            )
        lengths = found
        table: np.ndarray = np.zeros((len(arrays), int(found.max(initial=0))), dtype=dtype)
        inside = np.arange(table.shape[1]) < found[:, None]  # (B, L)
        if arrays:
            table[inside] = np.concatenate(arrays)
        padded[name] = torch.from_numpy(table)
    return padded, torch.from_numpy(inside)
