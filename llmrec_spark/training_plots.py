"""A training as drawings for MLflow: its loss, how reliable its probabilities are, and what counts in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmrec_spark.held_back import Calibration
from llmrec_spark.training_ablation import WHOLE, Ablation
from llmrec_spark.training_judgement import Training

SMOOTHED = 10  # steps whose mean is drawn


def training_plots(training: Training) -> dict[str, Figure]:
    """Figures by file name."""
    ranker = training.trained.ranker
    losses = loss_plot(training.trained.losses, "list loss", "Loss of the kernels' weights")
    plots = {"loss.png": losses, "importance.png": _importance(ranker.variances)}
    for name, found in (("p_click", training.clicks), ("p_conversion", training.conversions)):
        if found.rows:
            plots[f"reliability_{name}.png"] = _reliability(name, found)
    if training.ablation is not None:
        plots["ablation.png"] = _ablation(training.ablation)
    return plots


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def loss_plot(losses: Sequence[float], label: str, title: str) -> Figure:
    """The loss of each step and its mean over the last few."""
    figure, axes = _axes(6.0, 3.5)
    axes.plot(losses, color="0.8", linewidth=0.8, label="of each step")
    if len(losses) >= SMOOTHED:
        smooth = np.convolve(losses, np.full(SMOOTHED, 1.0 / SMOOTHED), mode="valid")
        axes.plot(np.arange(SMOOTHED - 1, len(losses)), smooth, label=f"mean of {SMOOTHED}")
    axes.set(xlabel="step", ylabel=label, title=title)
    axes.legend(frameon=False)
    return figure


def _importance(variances: dict[str, float]) -> Figure:
    ordered = sorted(variances.items(), key=lambda one: one[1])
    figure, axes = _axes(6.0, 0.6 + 0.28 * len(ordered))
    axes.barh([name for name, _ in ordered], [value for _, value in ordered])
    axes.set(xlabel="prior variance of taste", title="What a taste is made of")
    return figure


def _ablation(ablation: Ablation) -> Figure:
    shown = [one for one in reversed(ablation.rows) if one.part != WHOLE]
    figure, axes = _axes(6.5, 0.9 + 0.32 * len(shown))
    for place, one in enumerate(shown):
        axes.plot([one.ndcg.low, one.ndcg.high], [place, place], color="0.6")
        axes.plot(one.ndcg.value, place, "o", color="C0")
    axes.axvline(0.0, color="0.7", linewidth=0.8)
    axes.set(xlabel="nDCG with it, less without; 95 % interval over people", title="What each part brings")
    axes.set_yticks(range(len(shown)), [one.part for one in shown])
    return figure


def _reliability(name: str, found: Calibration) -> Figure:
    figure, axes = _axes(4.5, 4.5)
    largest = float(found.points.max()) * 1.05
    axes.plot([0, largest], [0, largest], color="0.7", linewidth=0.8)
    axes.plot(*found.points.T, marker="o")
    axes.set(
        xlabel=f"mean {name} of a bin",
        ylabel="what happened",
        title=f"{name}: calibration error {found.error:.4f}",
        xlim=(0, largest),
        ylim=(0, largest),
    )
    return figure
