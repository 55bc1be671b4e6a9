"""Federated studies of a MedMesh: submit one, watch it, fetch its model, check what was spent."""

from . import ledger
from ._auth import Client
from ._errors import MeshError, NotAllowed, NotFound, StudyFailed, StudyRefused
from ._mesh import Mesh, Study
from ._model import Curves, Evaluation, Interval, Metrics, Round, StudyState

__all__ = [
    "Client",
    "Curves",
    "Evaluation",
    "Interval",
    "Mesh",
    "MeshError",
    "Metrics",
    "NotAllowed",
    "NotFound",
    "Round",
    "Study",
    "StudyFailed",
    "StudyRefused",
    "StudyState",
    "ledger",
]
