"""What can go wrong, and what a caller can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Statuses below 500 of which the same request may be good later: a time out, too much at once.
LATER = (408, 429)


class MeshError(Exception):
    """The node said no, or something that cannot be understood. `problem` is its answer as an object (RFC 9457)."""

    def __init__(self, status: int, detail: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status = status
        self.detail = detail
        self.problem: Mapping[str, Any] = problem or {}

    @property
    def is_final(self) -> bool:
        """Whether asking again would give the same answer."""
        return 400 <= self.status < 500 and self.status not in LATER


class Unreachable(MeshError):
    """The node did not answer: it is not there, the connection broke, or time ran out. Whether it did what it was asked is not known."""

    def __init__(self, detail: str) -> None:
        super().__init__(0, detail)


class NotAllowed(MeshError):
    """The client's key, token or scope is not good for this."""


class NotFound(MeshError):
    """There is no such study, or it has no such file yet."""


class StudyRefused(MeshError):
    """The study cannot be, or cannot be changed so. Nothing was started."""

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by the key of the study that it is wrong with; several things are lines."""
        found: dict[str, str] = {}
        told = self.problem.get("problems")
        lines = [(str(one.get("path", "")), str(one.get("message", ""))) for one in told] if told else self._lines()
        for key, message in lines:
            found[key] = f"{found[key]}\n{message}" if key in found else message
        return found

    def _lines(self) -> list[tuple[str, str]]:
        parts = [(line, line.partition(": ")) for line in self.detail.splitlines()]
        return [(key, message) if separator else ("", line) for line, (key, separator, message) in parts]


class StudyFailed(Exception):
    """The study has ended without a model, and this is why."""

    def __init__(self, study: str, status: str, why: str) -> None:
        super().__init__(f"{study} is {status}: {why}" if why else f"{study} is {status}")
        self.study = study
        self.status = status
        self.why = why


def raised(status: int, detail: str, problem: Mapping[str, Any] | None = None) -> MeshError:
    """The error of an answer."""
    kinds: dict[int, type[MeshError]] = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 422: StudyRefused}
    return kinds.get(status, MeshError)(status, detail, problem)
