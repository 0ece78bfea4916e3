"""Settings of the ranker tried one after another, by Optuna, in a sqlite file: what is killed goes on from there."""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from llmrec_spark.errors import DataError, TryAgainError
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.search_config import COLUMN, SearchConfig, as_parameters, with_parameters
from llmrec_spark.tracked_trials import Trial

KILLED = "killed"  # of a trial of Optuna that no process ends any more: it is begun anew and not counted
LONGEST_ERROR = 1_000  # characters
SETTINGS, SECONDS, ERROR = "settings", "seconds", "error"


class Search(NamedTuple):
    """What was tried, and what is best of it."""

    trials: tuple[Trial, ...]
    chosen: Trial
    settings: RankerConfig  # of `chosen`


class Budget(NamedTuple):
    """How long a search goes on."""

    trials: int  # in all, those of earlier commands too
    minutes: float | None = None  # of this command, after which no trial is begun


@contextmanager
def open_study(file: Path, ranker: RankerConfig, ranges: SearchConfig) -> Iterator[Study]:
    """The study in a sqlite file, which is made where there is none. Raises TryAgainError while another has it open."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # is let go of when the process ends, however it ends
        except BlockingIOError:
            raise TryAgainError(f"search {file}: another job searches there. Wait until it has ended.") from None
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        try:
            yield Study(storage, ranker, ranges)
        finally:
            storage.remove_session()
            storage.engine.dispose()


class Study:
    """The trials of one search.

    Trial n is drawn from the seed, n and the figures of the trials before it (Bergstra et al., "Algorithms for
    Hyper-Parameter Optimization", 2011), so that it is the same whether the search was killed in between or not.
    """

    def __init__(self, storage: Any, ranker: RankerConfig, ranges: SearchConfig) -> None:
        import optuna

        self.ranker, self.ranges = ranker, ranges
        self.optuna = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
        for trial in self.optuna.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self.optuna.set_user_attr(f"{KILLED} {trial.number}", True)
            self.optuna.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those that came to an end, in order."""
        killed = self.optuna.user_attrs
        ended = [one for one in self.optuna.get_trials(deepcopy=False) if one.state.is_finished()]
        ended = [one for one in ended if f"{KILLED} {one.number}" not in killed]
        return tuple(_trial(number, one) for number, one in enumerate(ended, start=1))

    def search(
        self, figure: Callable[[RankerConfig], float], budget: Budget, *, told: Callable[[Trial], None]
    ) -> Search:
        """Tries settings until the budget is spent, then chooses; the first are the ranker's own.

        figure   of settings, the higher the better; what it raises, or NaN, is a failed trial and ends nothing
        told     is called with each trial that ended
        """
        began = time.monotonic()
        while len(self.trials) < budget.trials:
            if budget.minutes is not None and time.monotonic() - began >= 60.0 * budget.minutes:
                break
            self._try(figure)
            told(self.trials[-1])
        return self.choice()

    def choice(self) -> Search:
        """The best trial, the earlier of equals. Raises DataError where none succeeded."""
        done = [one for one in self.trials if one.ndcg is not None]
        if not done:
            last = self.trials[-1].error if self.trials else "none was begun"
            raise DataError(
                f"search: each of {len(self.trials)} trials failed, the last with: {last}. Expected one that trains. "
                "Train without --search to see the error where it is raised."
            )
        chosen = max(done, key=lambda one: (one.ndcg or -math.inf, -one.number))
        return Search(self.trials, chosen, with_parameters(self.ranker, chosen.settings))

    def _try(self, figure: Callable[[RankerConfig], float]) -> None:
        import optuna

        before = self.trials
        self.optuna.sampler = optuna.samplers.TPESampler(seed=self.ranges.seed + 1_000_003 * len(before))
        distributions = _distributions(self.ranker, self.ranges)
        if not before and not self.optuna.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            own = as_parameters(self.ranker)
            self.optuna.enqueue_trial({name: own[name] for name in distributions})
        trial = self.optuna.ask(distributions)
        settings = with_parameters(self.ranker, trial.params)
        described = _described(self.ranker, settings)
        trial.set_user_attr(SETTINGS, described)
        began, value, error = time.monotonic(), math.nan, ""
        same = next((one.ndcg for one in before if one.settings == described and one.ndcg is not None), None)
        try:
            value = figure(settings) if same is None else same
        except Exception as raised:  # one of the settings may not fit the data: others may
            error = f"{type(raised).__name__}: {raised}"[:LONGEST_ERROR]
        trial.set_user_attr(SECONDS, round(time.monotonic() - began, 2))
        if math.isfinite(value):
            self.optuna.tell(trial, value)
        else:
            trial.set_user_attr(ERROR, error or f"its figure is {value}")
            self.optuna.tell(trial, state=optuna.trial.TrialState.FAIL)


def _distributions(ranker: RankerConfig, ranges: SearchConfig) -> dict[str, Any]:
    """What Optuna draws from; a range that the ranker's own setting lies outside is widened to it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    if ranges.effect_spread is not None:
        ends = (*ranges.effect_spread, ranker.effect_spread)
        found["effect_spread"] = FloatDistribution(min(ends), max(ends), log=True)
    if ranges.text_rank is not None and ranker.text_rank:  # 0: texts promise nothing, and no search changes that
        ends = (*ranges.text_rank, ranker.text_rank)
        found["text_rank"] = IntDistribution(min(ends), max(ends), log=True)
    parts = list(dict.fromkeys(" ".join(one) for one in (*ranges.rerank, ranker.rerank)))
    if ranges.rerank:
        found["rerank"] = CategoricalDistribution(parts)
    if ranges.leave_out:
        names = (*ranker.columns, *ranker.groups)
        found |= {f"{COLUMN}{name}": CategoricalDistribution([True, False]) for name in names}
    return found


def _described(ranker: RankerConfig, settings: RankerConfig) -> dict[str, Any]:
    """Every setting that can be searched, by name; of a column or group, whether it is read."""
    return {**dict.fromkeys(as_parameters(ranker), False), **as_parameters(settings)}


def _trial(number: int, of: Any) -> Trial:
    attributes = of.user_attrs
    return Trial(
        number=number,
        settings=attributes.get(SETTINGS, {}),
        ndcg=of.value if of.state.name == "COMPLETE" else None,
        seconds=attributes.get(SECONDS, 0.0),
        begun_ms=int(1000 * of.datetime_start.timestamp()),
        error=attributes.get(ERROR, ""),
    )
