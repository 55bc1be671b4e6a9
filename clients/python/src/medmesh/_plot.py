"""A study as a matplotlib figure. Only this file imports matplotlib, when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._model import StudyState


def plot(state: StudyState, path: Path | None) -> Any:
    """Loss and AUROC by round, ROC, calibration."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install medmesh[plot]") from error
    figure = Figure(figsize=(10, 8), layout="constrained")
    (loss, auroc), (roc, calibration) = figure.subplots(2, 2)
    good = [report for report in state.reports if report.failure is None]
    by_round(loss, "Loss by round", [(report.round - 1, dict(report.losses)) for report in good])
    by_round(auroc, "AUROC by round", [(report.round - 1, dict(report.aurocs)) for report in good])
    curves = state.evaluation.curves if state.evaluation else None
    for axes, title in ((roc, "ROC, all sites"), (calibration, "Calibration, all sites")):
        axes.plot([0, 1], [0, 1], linestyle="--", color="grey", linewidth=1)
        axes.set(title=title, xlim=(0, 1), ylim=(0, 1))
    roc.set(xlabel="false positive rate", ylabel="true positive rate")
    calibration.set(xlabel="mean score", ylabel="share of yes")
    if curves is not None:
        roc.plot(*zip(*curves.roc))
        calibration.plot([one[0] for one in curves.calibration], [one[1] for one in curves.calibration], marker="o")
    figure.suptitle(f"{state.study}: {state.status}")
    if path is not None:
        figure.savefig(path)
    return figure


def by_round(axes: Any, title: str, told: list[tuple[int, dict[str, float]]]) -> None:
    """A line for each site, over the rounds of training before."""
    for site in sorted({site for _, own in told for site in own}):
        points = [(trained, own[site]) for trained, own in told if site in own]
        axes.plot(*zip(*points), label=site)
    axes.set(title=title, xlabel="rounds of training before")
    if axes.lines:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "not told", ha="center", transform=axes.transAxes)
