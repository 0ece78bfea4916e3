"""A small folder in RankLens's format: films, and lists of people who click at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILMS = [str(number) for number in range(1, 25)]
NO_RECORD = "unknown 7"  # shown, but not among the films; of cold group 0
PERSON = pa.struct([("name", pa.string())])


def write_movies(folder: Path) -> None:
    """24 films with short texts; film n has 10 n votes."""
    people = [{"name": f"actor {number % 5}"} for number in range(len(FILMS))]
    table = pa.table(
        {
            "id": pa.array(range(1, 25), pa.int64()),
            "title": [f"film number {film}" for film in FILMS],
            "overview": [f"what happens in {film}" for film in FILMS],
            "tags": [["loud", f"tag {int(film) % 4}"] for film in FILMS],
            "genres": pa.array([[{"name": f"genre {int(film) % 3}"}] for film in FILMS], pa.list_(PERSON)),
            "topActors": pa.array([[one] for one in people], pa.list_(PERSON)),
            "director": pa.array(people, PERSON),
            "writer": pa.array([None] * len(FILMS), PERSON),
            "tmdbVoteCount": pa.array([int(film) * 10 for film in FILMS], pa.int64()),
        }
    )
    pq.write_table(table, folder / "movies.parquet")


def write_lists(
    folder: Path, lists: Sequence[tuple[str, str, int, list[str]]], clicks: Sequence[tuple[str, str]]
) -> None:
    """lists: (id, user, time, films); clicks: pairs of a list's id and a film."""
    ids, users, times, items = zip(*lists, strict=True)
    shown = pa.array([[{"id": film} for film in one] for one in items], pa.list_(pa.struct([("id", pa.string())])))
    rankings = pa.table({"id": list(ids), "user": list(users), "timestamp": [str(time) for time in times]})
    pq.write_table(rankings.append_column("items", shown), folder / "rankings.parquet")
    named = {"ranking": [one for one, _ in clicks], "item": [film for _, film in clicks]}
    pq.write_table(pa.table(named), folder / "interactions.parquet")


def random_lists(seed: int) -> tuple[list[tuple[str, str, int, list[str]]], list[tuple[str, str]]]:
    """30 users with one to three lists, ten of FILMS and NO_RECORD in each, and the (list, film) clicked."""
    rng = np.random.default_rng(seed)
    shown = [*FILMS, NO_RECORD]
    lists = [
        (f"u{user}-{place}", f"u{user}", 1_000 + place, [str(film) for film in rng.permutation(shown)[:10]])
        for user in range(30)
        for place in range(1 + user % 3)
    ]
    clicks = [(name, film) for name, _, _, films in lists for film in films if rng.random() < 0.4]
    return lists, clicks
