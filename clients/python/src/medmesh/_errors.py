"""What can go wrong, and what a caller can do about it."""

from __future__ import annotations


class MeshError(Exception):
    """The node said no, or something that cannot be understood."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status = status
        self.detail = detail


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
        for line in self.detail.splitlines():
            key, separator, message = line.partition(": ")
            key, message = (key, message) if separator else ("", line)
            found[key] = f"{found[key]}\n{message}" if key in found else message
        return found


class StudyFailed(Exception):
    """The study has ended without a model, and this is why."""

    def __init__(self, study: str, status: str, why: str) -> None:
        super().__init__(f"{study} is {status}: {why}" if why else f"{study} is {status}")
        self.study = study
        self.status = status
        self.why = why


def raised(status: int, detail: str) -> MeshError:
    """The error of an answer."""
    kinds: dict[int, type[MeshError]] = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 422: StudyRefused}
    return kinds.get(status, MeshError)(status, detail)
