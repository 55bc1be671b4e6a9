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
    auroc: float | None
    auprc: float | None
    brier: float
    calibration: float
    calibration_intercept: float | None
    calibration_slope: float | None
    intervals: Mapping[str, Interval]
    why: str | None
    """Why there is no AUROC and no AUPRC, where there are none."""

    @classmethod
    def of(cls, told: Json) -> Metrics:
        return cls(
            records=int(told["records"]),
            accuracy=float(told["accuracy"]),
            auroc=_maybe(told["auroc"]),
            auprc=_maybe(told["auprc"]),
            brier=float(told["brier"]),
            calibration=float(told["calibration"]),
            calibration_intercept=_maybe(told.get("calibration_intercept")),
            calibration_slope=_maybe(told.get("calibration_slope")),
            intervals=_intervals(told),
            why=told.get("why"),
        )


@dataclass(frozen=True)
class Concordance:
    """Harrell's c of a Cox model, over pairs of subjects of one site."""

    concordance: float
    interval: Interval | None

    @classmethod
    def of(cls, told: Json) -> Concordance:
        return cls(float(told["concordance"]), _intervals(told).get("concordance"))


@dataclass(frozen=True)
class Personal:
    """How good each site's own model is, after fine-tuning on its own records."""

    pooled: Metrics | None
    sites: Mapping[str, Metrics]

    @classmethod
    def of(cls, told: Json) -> Personal:
        pooled = told.get("pooled")
        return cls(Metrics.of(pooled) if pooled else None, _metrics(told))


@dataclass(frozen=True)
class Curves:
    """ROC as shares (false positives, true positives); calibration as (mean score, share of yes, records)."""

    roc: tuple[tuple[float, float], ...]
    calibration: tuple[tuple[float, float, int], ...]

    @classmethod
    def of(cls, told: Json) -> Curves:
        no, yes = told["roc"][-1]
        return cls(
            # Where all labels are the same there is none.
            roc=tuple((fp / no, tp / yes) for fp, tp in told["roc"]) if no and yes else (),
            calibration=tuple(
                (float(one["score"]), one["yes"] / one["records"], int(one["records"])) for one in told["calibration"]
            ),
        )


@dataclass(frozen=True)
class Evaluation:
    """How good the model is: on the records of all sites together, and at each site that says so. A Cox model has
    concordances instead of figures."""

    pooled: Metrics | None
    sites: Mapping[str, Metrics]
    curves: Curves | None
    personal: Personal | None
    concordance: Concordance | None
    concordances: Mapping[str, Concordance]
    why: str | None = None
    """Why nothing is told of all sites together."""

    @classmethod
    def of(cls, told: Json) -> Evaluation:
        pooled, curves, personal = told.get("pooled") or {}, told.get("curves"), told.get("personal")
        sites = (told.get("sites") or {}).items()
        return cls(
            pooled=Metrics.of(pooled) if "accuracy" in pooled else None,
            sites=_metrics(told),
            curves=Curves.of(curves) if curves else None,
            personal=Personal.of(personal) if personal else None,
            concordance=Concordance.of(pooled) if "concordance" in pooled else None,
            concordances={site: Concordance.of(own) for site, own in sites if "concordance" in own},
            why=told.get("why"),
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
    notes: Mapping[str, str]
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
            notes={site: str(own["note"]) for site, own in sites.items() if own.get("note")},
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
    waiting: Mapping[str, str]
    """How sites stand in a round that lasts: that they take part, that they have not answered, or why they decline."""
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
            waiting={site: str(stands) for site, stands in ((told.get("waiting") or {}).get("sites") or {}).items()},
            evaluation=Evaluation.of(evaluation) if evaluation else None,
            sha256=(told.get("model") or {}).get("sha256"),
            raw=told,
        )


def _intervals(told: Json) -> dict[str, Interval]:
    within = told.get("intervals") or {}
    return {name: Interval(float(of["low"]), float(of["high"])) for name, of in within.items() if of}


def _metrics(told: Json) -> dict[str, Metrics]:
    sites = told.get("sites") or {}
    return {site: Metrics.of(own) for site, own in sites.items() if "accuracy" in own}


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)
