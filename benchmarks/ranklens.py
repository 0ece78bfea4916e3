"""How well each scorer orders the lists of RankLens's people, by one of three protocols, with 95 % intervals.

    python benchmarks/ranklens.py --protocol warm --from FOLDER

production  each user's last list, everything before the last day known: what `make ranklens` scores
warm        the same lists with every statistic from other people (five folds of users): to choose settings by
cold        films that nobody was ever shown: their impressions are deleted; ordered among themselves

Prints nDCG@k, group AUC and MRR (mean over lists) of each scorer, then of each step's difference, with intervals of a
paired bootstrap over users (over lists is the same where each user has one). Ties are never broken: a metric of tied
films is its expectation over all their orders, and films without a record rank last, tied.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from ranklens_films import Films, load_films
from ranklens_measures import METRICS, judged, resampled_users, with_interval
from ranklens_protocols import PROTOCOLS, Trial, list_users, read_impressions
from ranklens_scorers import Scorer, film_statistics, scorers

from llmrec_spark.command_line import exit_with
from llmrec_spark.config import Config
from llmrec_spark.config_files import load_config
from llmrec_spark.errors import ConfigError, DataError

CONFIG = Path(__file__).parents[1] / "conf" / "ranklens.yaml"
READ = "read of it: text, encoding.token_budget, statistics.prior_shown, sequences.max_behaviours, match"
EXAMPLE = "e.g. match.behaviour_temperature=0.1; repeatable"


def judge(
    trials: list[Trial], films: Films, config: Config, chosen: dict[str, Scorer], k: int
) -> dict[str, np.ndarray]:
    """METRICS of every list by scorer, (L, 3) each, the lists in the order of the trials."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for trial in trials:
        statistics = film_statistics(trial.training, films, config)
        for name, scorer in chosen.items():
            scores = scorer.score(trial.training, statistics, trial.histories, trial.candidates)
            found[name].append(judged(trial, scores, k))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def table(rows: dict[str, np.ndarray], k: int, *, signed: bool) -> str:
    """Lines of a printed table from (3, M) per name; a signed one is of differences."""
    sign = "+" if signed else ""
    heads = (f"nDCG@{k}", *METRICS[1:])
    lines = [f"{'difference' if signed else 'scorer':<16}" + "".join(f"{head:<30}" for head in heads)]
    for name, (means, lows, highs) in rows.items():
        cells = [
            f"{mean:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"
            for mean, low, high in zip(means, lows, highs, strict=True)
        ]
        lines.append(f"{name:<16}" + "".join(f"{cell:<30}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def steps(chosen: dict[str, Scorer]) -> list[tuple[str, str]]:
    """The pairs whose differences are shown."""
    return [(name, other) for name, scorer in chosen.items() for other in scorer.against]


def heading(arguments: argparse.Namespace, config: Config, trials: list[Trial], people: int) -> str:
    """What was judged, and how."""
    lists = sum(len(list_users(trial.candidates)) for trial in trials)
    unscored = sum(int((trial.candidates["item"] < 0).sum()) for trial in trials)
    match = config.match
    return (
        f"{arguments.protocol}: {lists:,} lists of {people:,} users; "
        f"{unscored:,} shown films without a record rank last\n"
        f"{arguments.encoder}, {match.form}, lambda {match.keyword_share}, tau {match.field_temperature}, "
        f"tau_u {match.behaviour_temperature}, beta {match.beta}; seed {arguments.seed}, "
        f"{arguments.resamples:,} resamples of users\n"
    )


def main() -> None:
    """Runs one protocol and prints its tables."""
    arguments = command_line()
    config = load_config(arguments.config, arguments.overrides)
    if config.match.half_life_days is not None:
        raise ConfigError("match.half_life_days: the times of RankLens are nominal, expected null.")
    k = arguments.k or (5 if arguments.protocol == "cold" else 10)
    films = load_films(arguments.folder, encoder=arguments.encoder, cache=arguments.cache, config=config)
    asked = PROTOCOLS[arguments.protocol](read_impressions(arguments.folder, films.ids))
    trials = [trial for trial in asked if len(trial.candidates)]  # a small folder may leave a fold empty
    if not trials:
        raise DataError(f"{arguments.folder}: nobody has an earlier list and clicked and unclicked films in the last.")
    chosen = scorers(films, config, metadata=arguments.metadata or arguments.protocol != "cold")
    values = judge(trials, films, config, chosen, k)
    users, people = pd.factorize(np.concatenate([list_users(trial.candidates) for trial in trials]))
    times = resampled_users(len(people), arguments.resamples, arguments.seed)
    print(heading(arguments, config, trials, len(people)))
    print(table({name: with_interval(one, users, times) for name, one in values.items()}, k, signed=False) + "\n")
    pairs = {f"{a} - {b}": with_interval(values[a] - values[b], users, times) for a, b in steps(chosen)}
    print(table(pairs, k, signed=True))


def command_line() -> argparse.Namespace:
    """The arguments."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--protocol", choices=tuple(PROTOCOLS), required=True)
    options.add_argument("--from", dest="folder", type=Path, required=True, help="folder of RankLens's Parquet files")
    options.add_argument("--encoder", choices=("minilm", "multilingual"), default="minilm")
    options.add_argument("--k", type=int, help="of nDCG; 10, and 5 in cold, whose lists are short")
    options.add_argument("--metadata", action="store_true", help="cold: votes, ratings, money too (elsewhere always)")
    options.add_argument("--seed", type=int, default=1, help="of the bootstrap")
    options.add_argument("--resamples", type=int, default=1_000)
    options.add_argument("--cache", type=Path, default=Path("local/text_vectors"), help="keeps the vectors of texts")
    options.add_argument("--config", default=CONFIG, help=READ)
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=EXAMPLE)
    return options.parse_args()


if __name__ == "__main__":
    exit_with(main)
