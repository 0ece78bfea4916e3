"""What each part of a ranker brings: trained again without it, and judged on the same lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmrec_spark.config import Config
from llmrec_spark.held_back import Estimate, judge
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.runs import say
from llmrec_spark.training_cost import Cost, measured

if TYPE_CHECKING:
    from llmrec_spark.model.taste_training import Trained
    from llmrec_spark.model.training_sample import Examples, Sample, ShownBefore

Train = Callable[[RankerConfig, "Examples", "ShownBefore", Sequence[str]], "Trained"]
WHOLE = "everything"
TASTE, EFFECT, NETWORK = "taste: ", "effect: ", "network: "  # begin the name of a part of it
# Parts of how a network learns: the key of ranker.learning, and its value without.
OFF: Mapping[str, tuple[str, object]] = {
    "warm-up": ("warmup_share", 0.0),
    "weight decay": ("weight_decay", 0.0),
    "clipped gradients": ("clip_norm", None),
    "early stopping": ("patience", None),
    "mixed precision": ("mixed_precision", False),
    "loss of lists": ("list_share", 0.0),
    "adversarial vectors": ("adversarial", 0.0),
}


class Ablated(NamedTuple):
    """A training, of everything or without one part."""

    part: str  # that was taken away, or WHOLE
    ndcg: Estimate  # what the part brings: of everything less without it; of WHOLE its own
    group_auc: Estimate
    cost: Cost
    examples: int  # that it learned from

    @property
    def examples_per_second(self) -> float:
        """Learned from in the time of the whole training."""
        return self.examples / max(self.cost.seconds, 1e-9)


class Ablation(NamedTuple):
    """One table: everything, then without each part."""

    split: str  # of the lists it is judged on
    lists: int
    users: int
    rows: tuple[Ablated, ...]


class Part(NamedTuple):
    """What is taken away."""

    name: str
    settings: RankerConfig
    groups: tuple[str, ...] = ()  # of kernels
    positions: bool = True


def parts(settings: RankerConfig) -> list[Part]:
    """Each part that settings have, with the settings of a training without it."""
    from llmrec_spark.model.kernel_groups import COLUMNS, GROUPS, ITSELF, KEYWORDS, PEOPLE, TEXTS

    has = {TEXTS: True, KEYWORDS: True, COLUMNS: settings.columns, GROUPS: settings.groups}
    has |= {PEOPLE: settings.neighbours is not None, ITSELF: True}
    found = [Part(f"{TASTE}{group}", settings, (group,)) for group, there in has.items() if there]
    found.append(Part(f"{EFFECT}texts", settings.model_copy(update={"text_rank": 0})))
    if settings.positions:
        found.append(Part("positions", settings.model_copy(update={"positions": False}), positions=False))
    for one in settings.rerank:
        left = tuple(other for other in settings.rerank if other != one)
        found.append(Part(f"rerank: {one}", settings.model_copy(update={"rerank": left})))
    return [*found, *(network_parts(settings) if "network" in settings.rerank else ())]


def network_parts(settings: RankerConfig) -> Iterator[Part]:
    """Each part of a network and of how it learns; of what reads histories, the others in its place."""
    network, learning = settings.network, settings.learning

    def without(name: str, part: str, **changed: object) -> Part:
        inside = getattr(settings, part).model_copy(update=changed)
        return Part(f"{NETWORK}{name}", settings.model_copy(update={part: inside}))

    for other in ("lstm", "transformer"):
        if other != network.behaviours:
            yield without(f"{network.behaviours}, not {other}", "network", behaviours=other)
    if network.dropout:
        yield without("dropout", "network", dropout=0.0)
    for name, (key, off) in OFF.items():
        if getattr(learning, key) != off:
            yield without(name, "learning", **{key: off})
    for key in ("crop", "mask", "reorder"):
        if getattr(learning.augmentation, key):
            augmentation = learning.augmentation.model_copy(update={key: 0.0})
            yield without(f"histories by {key}", "learning", augmentation=augmentation)
    if learning.pretraining.objective != "none":
        pretraining = learning.pretraining.model_copy(update={"objective": "none"})
        yield without("pretraining", "learning", pretraining=pretraining)


def ablate(config: Config, sample: Sample, split: str, whole: tuple[Trained, Cost], train: Train) -> Ablation:
    """What each part of config.ranker brings on the lists of `split`; `whole` is the training with all of them.

    train   of settings, examples, what was shown before each list, and groups of kernels that a taste is without
    """
    rows, examples = sample.rows, sample.examples
    held = np.flatnonzero(rows["split"] == split)
    scores, costs = {WHOLE: whole[0].scored.score[held]}, {WHOLE: whole[1]}
    for part in parts(config.ranker):
        given, before = examples, sample.before
        if not part.positions:
            given = given._replace(position=np.full(len(given.position), np.nan))
            before = before._replace(position=np.full(len(before.position), np.nan))
        with measured() as cost:
            trained = train(part.settings, given, before, part.groups)
        scores[part.name], costs[part.name] = trained.scored.score[held], cost
        say(f"without {part.name:<30} {cost.seconds:>8.1f} s")
    users = rows["user_id"].to_numpy()[held]
    pairs = [(WHOLE, name) for name in scores if name != WHOLE]
    of = config.evaluation
    found = judge(
        scores,
        examples.clicked[held],
        examples.list[held],
        users,
        pairs=pairs,
        k=of.k,
        replicates=of.replicates,
        seed=of.seed,
    )
    learned = int(examples.trains.sum())
    estimates = {WHOLE: found.values[WHOLE], **{name: found.differences[WHOLE, name] for _, name in pairs}}
    table = [Ablated(name, one["ndcg"], one["group_auc"], costs[name], learned) for name, one in estimates.items()]
    return Ablation(split, found.lists, found.users, tuple(table))
