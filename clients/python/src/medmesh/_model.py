"""What is said of a study, as types. `raw` is the whole answer, for what is not named here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]
FIGURES = ("accuracy", "auroc", "auprc", "brier", "calibration")


@dataclass(frozen=True)
class Interval:
    """The middle 95 per cent of a figure over bootstrap samples."""

    low: float
    high: float


@dataclass(frozen=True)
class Metrics:
    """Figures of a model on records that were kept from training."""

    records: int
    accuracy: float
    auroc: float
    auprc: float
    brier: float
    calibration: float
    calibration_intercept: float | None
    calibration_slope: float | None
    intervals: Mapping[str, Interval]

    @classmethod
    def of(cls, told: Json) -> Metrics:
        within = told.get("intervals") or {}
        return cls(
            records=int(told["records"]),
            accuracy=float(told["accuracy"]),
            auroc=float(told["auroc"]),
            auprc=float(told["auprc"]),
            brier=float(told["brier"]),
            calibration=float(told["calibration"]),
            calibration_intercept=_maybe(told.get("calibration_intercept")),
            calibration_slope=_maybe(told.get("calibration_slope")),
            intervals={name: Interval(float(of["low"]), float(of["high"])) for name, of in within.items()},
        )


@dataclass(frozen=True)
class Curves:
    """ROC as shares (false positives, true positives); calibration as (mean score, share of yes, records)."""

    roc: tuple[tuple[float, float], ...]
    calibration: tuple[tuple[float, float, int], ...]

    @classmethod
    def of(cls, told: Json) -> Curves:
        no, yes = told["roc"][-1]
        return cls(
            roc=tuple((fp / no, tp / yes) for fp, tp in told["roc"]),
            calibration=tuple(
                (float(one["score"]), one["yes"] / one["records"], int(one["records"])) for one in told["calibration"]
            ),
        )


@dataclass(frozen=True)
class Evaluation:
    """How good the model is: on the records of all sites together, and at each site that says so."""

    pooled: Metrics | None
    sites: Mapping[str, Metrics]
    curves: Curves | None

    @classmethod
    def of(cls, told: Json) -> Evaluation:
        pooled, curves = told.get("pooled"), told.get("curves")
        return cls(
            pooled=Metrics.of(pooled) if pooled else None,
            sites={site: Metrics.of(own) for site, own in (told.get("sites") or {}).items()},
            curves=Curves.of(curves) if curves else None,
        )


@dataclass(frozen=True)
class Round:
    """What became of a round. Losses and AUROC are of the model that the round began from."""

    round: int
    attempt: int
    members: int
    seconds: float
    bytes: int
    epsilon: float | None
    losses: Mapping[str, float]
    aurocs: Mapping[str, float]
    missing: Mapping[str, str]
    failure: str | None

    @property
    def loss(self) -> float | None:
        """Mean over the sites that tell it; none where records are hidden."""
        return sum(self.losses.values()) / len(self.losses) if self.losses else None

    @classmethod
    def of(cls, told: Json) -> Round:
        sites = told["sites"]
        losses = {site: own["told"].get("loss") for site, own in sites.items()}
        figures = {site: own["told"].get("figures") or own["told"] for site, own in sites.items()}
        return cls(
            round=int(told["round"]),
            attempt=int(told["attempt"]),
            members=int(told["members"]),
            seconds=(told["ended_ms"] - told["began_ms"]) / 1e3,
            bytes=int(told["bytes"]),
            epsilon=_maybe(told.get("epsilon")),
            losses={site: float(loss) for site, loss in losses.items() if loss is not None},
            aurocs={site: float(own["auroc"]) for site, own in figures.items() if own.get("auroc") is not None},
            missing={site: str(own["missing"]) for site, own in sites.items() if own.get("missing")},
            failure=told.get("failure"),
        )


@dataclass(frozen=True)
class StudyState:
    """A study as it stands."""

    study: str
    status: str
    rounds: int
    rounds_planned: int
    unit: str
    epsilon: float | None
    delta: float | None
    why: str | None
    reports: tuple[Round, ...]
    evaluation: Evaluation | None
    sha256: str | None
    raw: Json = field(repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens unless it is resumed."""
        return self.status != "running"

    @classmethod
    def of(cls, told: Json) -> StudyState:
        evaluation = told.get("evaluation")
        return cls(
            study=str(told["study"]),
            status=str(told["status"]),
            rounds=int(told["rounds"]),
            rounds_planned=int(told.get("rounds_planned", 0)),
            unit=str(told.get("unit", "none")),
            epsilon=_maybe(told.get("epsilon")),
            delta=_maybe(told.get("delta")),
            why=told.get("why"),
            reports=tuple(Round.of(one) for one in told.get("progress") or ()),
            evaluation=Evaluation.of(evaluation) if evaluation else None,
            sha256=(told.get("model") or {}).get("sha256"),
            raw=told,
        )


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)
