"""Federated studies of a MedMesh: submit one, watch it, fetch its model, check what was spent."""

from . import ledger
from ._auth import Client
from ._errors import MeshError, NotAllowed, NotFound, StudyFailed, StudyRefused, Unreachable
from ._mesh import Mesh, Study
from ._model import Concordance, Curves, Evaluation, Interval, Metrics, Personal, Round, StudyState

__all__ = [
    "Client",
    "Concordance",
    "Curves",
    "Evaluation",
    "Interval",
    "Mesh",
    "MeshError",
    "Metrics",
    "NotAllowed",
    "NotFound",
    "Personal",
    "Round",
    "Study",
    "StudyFailed",
    "StudyRefused",
    "StudyState",
    "Unreachable",
    "ledger",
]
