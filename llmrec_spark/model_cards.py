"""A model card: what a trained model is, what it learned from, how good it was on lists held back, where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmrec_spark.config import Config
from llmrec_spark.held_back import METRICS, Calibration, Estimate
from llmrec_spark.settings_search import Search
from llmrec_spark.training_ablation import WHOLE, Ablation
from llmrec_spark.training_judgement import (
    CHAMPION,
    EFFECT,
    LINEAR,
    NETWORK,
    RATE,
    TASTE,
    TRAINED,
    TREES,
    UNTRAINED,
    Training,
)
from llmrec_spark.training_search import words

SCORERS = {
    RATE: "shrunk click rate of the ad",
    EFFECT: "effect of the ad, shrunk to a prior read from its texts and columns",
    UNTRAINED: "logit(rate) + beta lift: the match, not trained",
    CHAMPION: "the model it was trained beside",
    TASTE: "effect and taste",
    LINEAR: "list-wise linear ranker on features of user and ad",
    TREES: "LambdaMART on the same",
    NETWORK: "what the network of behaviours adds to effect and taste, by itself",
    TRAINED: "this model",
}
INTERVAL = "95 % interval over people"
LABELS = {"ndcg": "nDCG@{k}", "group_auc": "group AUC", "mrr": "MRR@{k}"}


def model_card(training: Training, config: Config, base: str, inputs: Mapping[str, str]) -> str:
    """Markdown: data, figures by scorer, step and segment, probabilities, what counts, limits."""
    return "\n".join(_card(training, config, base, inputs)) + "\n"


def _card(training: Training, config: Config, base: str, inputs: Mapping[str, str]) -> Iterator[str]:
    judged, k = training.judged, config.evaluation.k
    lists = training.sample.rows.drop_duplicates(["run_date", "user_id", "list_id"])["split"].value_counts()
    names = [LABELS[one].format(k=k) for one in METRICS]
    yield "# A ranker of ads: effects, tastes, calibrated probabilities"
    yield ""
    yield f"Trained at {training.as_of} 00:00 UTC on training set {training.training_set}, with the encoder of {base}."
    yield "Contributions of behaviours and features add up to log_odds: they are terms of one sum. What behaviours say"
    yield "for and against an ad by one column or group is set off: those of one sign are kept, shrunk to the rest."
    if training.trained.ranker.rerank is not None:
        weights = ", ".join(f"{value:.3f} {name}" for name, value in training.trained.ranker.rerank.weights.items())
        yield f"Of the best ads by effect and taste the score is {weights}. What a behaviour adds through the taste and"
        yield "the linear ranker is exact; what trees add is TreeSHAP's, by feature, summed by kernel and column; what"
        yield "a behaviour adds through a network is found by occlusion: the score less that of the history without it;"
        yield "through a network that reads texts, what the newest clicks add, and the newest skips."
    yield ""
    yield "## Data"
    yield ""
    yield from (f"- {name}: version {version}" for name, version in sorted(inputs.items()))
    yield f"- split by {config.training.split}; lists held in memory: {_counted(lists.to_dict())}"
    shown, clicks, _, conversions = (int(one.sum()) for one in training.sample.totals)
    yield f"- {shown:,} shown ads train, {clicks:,} of them clicked; {conversions:,} conversions after a click"
    if training.sample.unknown:
        yield f"- {training.sample.unknown:,} shown ads without a record in inputs.ads are left out"
    if training.sample.cut:
        yield f"- {training.sample.cut:,} shown ads of very long lists are left out; what is counted of an ad has them"
    yield f"- positions {'are taken out of clicks' if config.ranker.positions else 'are not read'}"
    yield ""
    people = f"{judged.lists:,} lists with and without a click, {judged.users:,} people"
    yield f"## Order of lists ({training.split}: {people})"
    yield ""
    if training.split != "test":
        yield f"No days or people were kept for a test, so these are the lists of `{training.split}`."
        yield ""
    yield from _table(
        ["scorer", *names, ""], [[*_row(name, judged.values[name]), SCORERS[name]] for name in judged.values]
    )
    yield ""
    yield f"Differences on the same lists, {INTERVAL}:"
    yield ""
    yield from _table(
        ["step", *names],
        [[f"{one} - {other}", *(str(of[name]) for name in METRICS)] for (one, other), of in judged.differences.items()],
    )
    if training.ablation is not None:
        yield from _ablated(training.ablation, k)
    if training.search is not None:
        yield from _searched(training.search, training.split, k)
    if training.by_segment:
        yield ""
        yield "## By segment"
        yield ""
        rows = [
            [name, f"{of.lists:,}", *_row(TRAINED, of.values[TRAINED])[1:], str(of.differences[TRAINED, RATE]["ndcg"])]
            for name, of in training.by_segment.items()
            if of.lists
        ]
        yield from _table(["segment", "lists", *names, f"{names[0]}: trained - rate"], rows)
    yield ""
    yield "## Probabilities"
    yield ""
    heading = ["", "rows", "mean predicted", "mean observed", "calibration error, 15 equal bins", "log loss"]
    of_all = {"p_click": training.clicks, "rate as p_click": training.rates, "p_conversion": training.conversions}
    yield from _table(heading, [_calibration_row(name, of) for name, of in of_all.items()])
    yield ""
    yield "## What counts"
    yield ""
    ranker = training.trained.ranker
    yield "Prior variance of taste by kernel; a larger one weighs more:"
    yield ""
    largest = sorted(ranker.variances.items(), key=lambda one: -one[1])
    yield from _table(["kernel", "variance"], [[name, f"{value:.4f}"] for name, value in largest])
    yield ""
    yield "## Limits"
    yield ""
    yield "- A user of whom nothing was known gets the ads by their effect; a taste needs clicks or skips."
    yield "- The effect of an ad that nobody has met is read from its text, and is the less sure for it."
    yield from (f"- {line}" for line in _of_probabilities(training))


def _of_probabilities(training: Training) -> Iterator[str]:
    """What may be believed of p_click and p_conversion."""
    examples, ranker = training.sample.examples, training.trained.ranker
    yield f"{int(examples.calibrates.sum()):,} shown ads calibrate p_click, for people and places like theirs."
    if examples.were_drawn:
        yield "The log does not say what was shown: p_click is the chance that an act of the user is on the ad."
        yield "Above, p_click is judged among the ads drawn beside each act."
    if ranker.p_click[0] == 0:
        yield "Effect, taste and level say nothing of the clicks that calibrate p_click, which leaves them out."
    if ranker.p_conversion is None:
        yield "No click is known to have led to a conversion: p_conversion is NULL."
    else:
        said = f"learned from {int(training.sample.totals.settled.sum()):,} of which it is known what followed"
        yield f"p_conversion is given a click, {said}; conversions without a click are not in it."


def _ablated(ablation: Ablation, k: int) -> Iterator[str]:
    yield ""
    yield "## What each part brings"
    yield ""
    yield f"Trained again without each part, and judged on the {ablation.lists:,} lists of {ablation.split}. After the"
    yield f"first row: everything less without the part, {INTERVAL}; above 0 it helps. Memory is that of the"
    yield "whole process at its most."
    yield ""
    yield from _table(["part", f"nDCG@{k}", "group AUC", "seconds", "examples/s", "peak MB"], ablation_rows(ablation))


def ablation_rows(ablation: Ablation) -> list[list[str]]:
    """Part, what it brings to nDCG and group AUC, seconds, examples per second, peak memory: everything comes first."""
    found = []
    for one in ablation.rows:
        peak = "–" if one.cost.peak_mb is None else f"{one.cost.peak_mb:,.0f}"
        speed = [f"{one.cost.seconds:.1f}", f"{one.examples_per_second:,.0f}", peak]
        brings = [str(estimate) for estimate in (one.ndcg, one.group_auc)]
        found.append([one.part, *(value.replace("+", "") if one.part == WHOLE else value for value in brings), *speed])
    return found


def _searched(search: Search, split: str, k: int) -> Iterator[str]:
    yield ""
    yield "## Search of settings"
    yield ""
    yield f"Trial {search.chosen.number} has the best nDCG@{k} on the lists of validation, a figure that is too good,"
    yield "as is that of any winner. No trial read a list of the test."
    if split != "test":
        yield "No test was kept: the tables above are of the lists that chose the settings, and too good as well."
    yield ""
    rows = [
        [
            f"{one.number}{' (chosen)' if one.number == search.chosen.number else ''}",
            f"{one.ndcg:.4f}" if one.ndcg is not None else "failed",
            f"{one.seconds:.1f}",
            words(one) if one.ndcg is not None else f"{words(one)}: {' '.join(one.error.split()).replace('|', '/')}",
        ]
        for one in search.trials
    ]
    yield from _table(["trial", f"nDCG@{k} of validation", "seconds", "settings"], rows)


def _row(name: str, of_scorer: Mapping[str, Estimate]) -> list[str]:
    values = [of_scorer[one] for one in METRICS]
    return [name, *(f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in values)]


def _calibration_row(name: str, of: Calibration) -> list[str]:
    if not of.rows:
        return [name, "0", *["–"] * 4]
    return [name, f"{of.rows:,}", *(f"{one:.4f}" for one in (of.predicted, of.observed, of.error, of.log_loss))]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{' --- |' * len(heading)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def summary(training: Training, k: int) -> list[str]:
    """The figures as lines for a terminal."""
    judged = training.judged
    names = [LABELS[one].format(k=k) for one in METRICS]
    lines = [
        f"{training.split}: {judged.lists:,} lists of {judged.users:,} people",
        f"{'':<12}" + "".join(f"{one:>12}" for one in names),
    ]
    for name, of in judged.values.items():
        lines.append(f"{name:<12}" + "".join(f"{of[one].value:>12.4f}" for one in METRICS))
    for (one, other), difference in judged.differences.items():
        lines.append(f"{one} - {other}: {names[0]} {difference['ndcg']}, {names[1]} {difference['group_auc']}")
    if training.ablation is not None:
        lines.append(f"{'part':<22}{names[0] + ' with - without':>28}  seconds, examples/s, peak MB")
        for part, ndcg, _, *cost in ablation_rows(training.ablation):
            lines.append(f"{part:<22}{ndcg:>28}  {', '.join(cost)}")
    for name, found in (("p_click", training.clicks), ("p_conversion", training.conversions)):
        if not found.rows:
            lines.append(f"{name}: not judged, of none of the examples held back is it known what came of them")
            continue
        means = f"predicted {found.predicted:.4f}, observed {found.observed:.4f}"
        lines.append(f"{name}: calibration error {found.error:.4f}, {means}, {found.rows:,} rows")
    settled, conversions = (int(one.sum()) for one in training.sample.totals[2:])
    lines.append(f"p_conversion: learned from {settled:,} clicks, {conversions:,} of which led to a conversion")
    return lines
