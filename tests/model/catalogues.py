"""Small random catalogues and histories for tests, kept as plain values so that slow twins need not read the arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from llmrec_spark.model.behaviour_encoder import Histories, encode_histories
from llmrec_spark.model.catalogue import Catalogue, build_catalogue, open_catalogue

FIELDS = ("title", "description", "tags")
WORDS = ("red", "blue", "shoe", "shirt", "sale", "new", "never met", "男鞋")


class Text(NamedTuple):
    """What an ad holds in one field, or what was searched for."""

    text_hash: str
    keywords: Sequence[str] = ()


class Behaviour(NamedTuple):
    """One event of a history: of an ad, or of a query."""

    ad_id: str | None
    query: str | None = None
    log_prior: float = 0.0
    event_type: str = "click"


@dataclass(frozen=True)
class World:
    """What a catalogue is made of. A text's hash is any name; a query is named by the hash of its text."""

    ads: Mapping[str, Mapping[str, Text]]  # by ad_id and field
    vectors: Mapping[str, np.ndarray]  # (D,) float32 by text hash
    queries: Mapping[str, Sequence[str]]  # keywords by query hash
    live: Sequence[str]
    behaved: Sequence[str]
    fields: Sequence[str] = FIELDS
    frequency: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    centre: Mapping[str, np.ndarray] | None = None

    def catalogue(self) -> Catalogue:
        """The arrays of this world."""
        rows = [(ad_id, name, *text) for ad_id, texts in self.ads.items() for name, text in texts.items()]
        return build_catalogue(
            pd.DataFrame(rows, columns=["ad_id", "field", "text_hash", "keywords"], dtype=object),
            pd.DataFrame({"query_hash": list(self.queries), "keywords": list(self.queries.values())}, dtype=object),
            pd.Series({name: vector.tobytes() for name, vector in self.vectors.items()}, dtype=object),
            ad_ids=list(self.ads),
            live=self.live,
            behaved=self.behaved,
            fields=self.fields,
            centre=self.centre,
            frequency=self.frequency,
            documents=self.documents,
        )

    def opened(self, folder: Path) -> tuple[str, Catalogue]:
        """The catalogue saved in a new folder below `folder` and opened again, as a worker sees it."""
        place = folder / f"catalogue_{len(list(folder.iterdir()))}"
        self.catalogue().save(place)
        return str(place), open_catalogue(str(place))


def unit(*values: float) -> np.ndarray:
    """The values scaled to length 1, float32."""
    vector = np.asarray(values, dtype=np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def simple_world(ads: Mapping[str, Mapping[str, np.ndarray]], **parts: object) -> World:
    """Ads with vectors of their own by field, all live and behaved; no keywords, no queries unless `parts` say so."""
    texts = {ad: {name: Text(f"{ad} {name}") for name in fields} for ad, fields in ads.items()}
    vectors = {f"{ad} {name}": vector for ad, fields in ads.items() for name, vector in fields.items()}
    return World(**{"ads": texts, "vectors": vectors, "queries": {}, "live": list(ads), "behaved": list(ads)} | parts)  # type: ignore[arg-type]


def random_world(seed: int, *, ads: int = 11, width: int = 5, fields: Sequence[str] = FIELDS) -> World:
    """Ads that share texts and lack fields, one live ad and one behaved ad without text, two queries."""
    rng = np.random.default_rng(seed)
    names = [f"t{number:03d}" for number in range(ads)]
    vectors = {name: unit(*rng.normal(size=width)) for name in names}

    def keywords() -> list[str]:
        return [str(word) for word in rng.choice(WORDS, rng.integers(0, 5))]

    ad_ids = [f"ad{number:03d}" for number in range(ads)]
    texts = {
        ad: {name: Text(str(rng.choice(names)), keywords()) for name in fields if rng.random() < 0.7}
        for ad in ad_ids[2:]
    }
    texts |= {ad_ids[0]: {}, ad_ids[1]: {}}
    return World(
        ads=texts,
        vectors=vectors,
        queries={names[0]: keywords(), names[-1]: []},
        live=[*ad_ids[0:1], *ad_ids[2 : ads - 1]],
        behaved=[*ad_ids[1:2], *ad_ids[4:]],
        fields=fields,
        frequency={word: int(rng.integers(1, ads)) for word in WORDS if word != "never met"},
        documents=ads,
    )


def random_histories(seed: int, world: World, *, users: int = 7, longest: int = 6) -> list[list[Behaviour] | None]:
    """Histories with repeats, searches, ads nobody knows and priors from 1 to e^-500; the first two are not usable."""
    rng = np.random.default_rng(seed)
    events = [*((ad, None) for ad in (*world.behaved, "unknown")), *((None, query) for query in world.queries)]
    places = [rng.integers(0, len(events), rng.integers(1, longest + 1)) for _ in range(users - 2)]
    priors = [np.where(rng.random(len(place)) < 0.2, -500.0, -rng.exponential(1.0, len(place))) for place in places]
    usable = [
        [
            Behaviour(*events[i], float(prior), str(rng.choice(["click", "cart"])))
            for i, prior in zip(*pair, strict=True)
        ]
        for pair in zip(places, priors, strict=True)
    ]
    return [None, [Behaviour("unknown")], *usable]


def history_rows(users: Sequence[Sequence[Behaviour] | None]) -> pd.DataFrame:
    """What a batch of users looks like when Spark hands it over: user_id u0, u1, ...; None is a user without a row."""

    def column(part: str) -> list[list[object] | None]:
        return [None if events is None else [getattr(event, part) for event in events] for events in users]

    return pd.DataFrame(
        {
            "user_id": [f"u{number}" for number in range(len(users))],
            "ad_ids": pd.Series(column("ad_id"), dtype=object),
            "query_hashes": pd.Series(column("query"), dtype=object),
            "event_types": pd.Series(column("event_type"), dtype=object),
            "log_priors": pd.Series(column("log_prior"), dtype=object),
        }
    )


def encoded(users: Sequence[Sequence[Behaviour] | None], catalogue: Catalogue) -> Histories:
    """The histories as the match reads them."""
    return encode_histories(history_rows(users), catalogue)
