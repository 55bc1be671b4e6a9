"""The global node's API of studies."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import numpy
from numpy.typing import NDArray

from . import _plot
from ._auth import Bearer, Client, object_of
from ._errors import MeshError, NotFound, StudyFailed, Unreachable, raised
from ._model import Round, StudyState

FILES = ("model.safetensors", "model.onnx", "card.md", "loss.svg", "auroc.svg", "roc.svg", "calibration.svg")
# How long a node that is being started again may not answer while somebody watches a study.
PATIENCE_SECONDS = 60.0


class Mesh:
    """The studies of a mesh, as one client of it."""

    def __init__(
        self,
        server: str,
        *,
        client_id: str = "data-scientist",
        key: str | Path,
        ca: str | Path,
        kid: str | None = None,
        token_url: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """`server` is the global node's address, such as `https://mesh.example:8443`; `ca` its authority's PEM file."""
        origin = server.rstrip("/").removesuffix("/api/v1")
        if not origin.startswith("https://"):
            raise ValueError(f"server: is an address such as https://mesh.example:8443, not {server!r}")
        self.client = Client(client_id, kid or f"{client_id}-1", Path(key), token_url or f"{origin}/auth/token")
        self._http = httpx.Client(
            base_url=f"{origin}/api/v1/fl",
            auth=Bearer(self.client),
            verify=ssl.create_default_context(cafile=str(ca)),
            timeout=timeout,
        )

    @classmethod
    def from_dir(cls, folder: str | Path = ".medmesh", client: str = "data-scientist") -> Mesh:
        """The mesh of a folder, by its `mesh.json`."""
        told = json.loads((Path(folder) / "mesh.json").read_text())
        if client not in told["clients"] or "global" not in told["clients"][client]["token_url"]:
            raise ValueError(f"client: mesh.json has no client {client!r} of the global node")
        of = told["clients"][client]
        return cls(
            told["global"]["api"],
            client_id=of["client_id"],
            key=of["key"],
            ca=told["ca"],
            kid=of["kid"],
            token_url=of["token_url"]["global"],
        )

    def submit(self, study: str | Path) -> Study:
        """Has the mesh run a study: a file, or the TOML itself. Raises `StudyRefused`, and nothing was started."""
        is_text = isinstance(study, str) and "\n" in study
        text = str(study) if is_text else Path(study).read_text(encoding="utf-8")
        return Study(self, str(self._post("/studies", text)["study"]))

    def study(self, study_id: str) -> Study:
        """A study by its id. It is not looked at yet."""
        return Study(self, study_id)

    def list(self) -> list[StudyState]:
        """The studies, the newest first, without their rounds."""
        found: list[StudyState] = []
        path = "/studies"
        while True:
            page = self._object(path)
            found += [StudyState.of(one) for one in page["items"]]
            if page.get("next") is None:
                return found
            path = f"/studies?after={quote(page['next'], safe='')}"

    def link(self, study: str | None = None) -> str:
        """A link that opens the pages of studies in a browser; good once, and for a minute. Raises `NotFound` where there is no
        such study."""
        if study is not None:
            self.study(study).state()
        link = str(self._post("/link", "")["link"])
        return link if study is None else f"{link}&study={quote(study, safe='')}"

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _get(self, path: str) -> httpx.Response:
        return self._asked("GET", path, None)

    def _object(self, path: str) -> dict[str, Any]:
        return _object(self._get(path))

    def _post(self, path: str, body: str) -> dict[str, Any]:
        return _object(self._asked("POST", path, body.encode()))

    def _asked(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        headers = {} if body is None else {"content-type": "application/toml"}
        try:
            answer = self._http.request(method, path, content=body, headers=headers)
        except httpx.RequestError as error:
            raise Unreachable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        if answer.is_success:
            return answer
        told = object_of(answer)
        detail = told.get("detail") or told.get("error") or "no reason was given"
        raise raised(answer.status_code, str(detail), told)


class Study:
    """A study of a mesh."""

    def __init__(self, mesh: Mesh, study_id: str) -> None:
        self._mesh = mesh
        self.id = study_id

    def __repr__(self) -> str:
        return f"Study({self.id!r})"

    def state(self) -> StudyState:
        """How it stands now."""
        return StudyState.of(self._mesh._object(self._path()))

    def _path(self, more: str = "") -> str:
        return f"/studies/{quote(self.id, safe='')}{more}"

    def watch(self, every: float = 0.5) -> Iterator[Round]:
        """Each round as it ends, from the first, until the study has ended. A node that does not answer is asked again for a
        minute."""
        said = 0
        for state in self._states(every):
            yield from state.reports[said:]
            said = len(state.reports)

    def _states(self, every: float, timeout: float | None = None) -> Iterator[StudyState]:
        """How it stands, again and again, until it has ended."""
        begin = silent_since = time.monotonic()
        while True:
            try:
                state = self.state()
            except MeshError as error:
                now = time.monotonic()
                is_late = timeout is not None and now - begin > timeout
                if error.is_final or is_late or now - silent_since > PATIENCE_SECONDS:
                    raise
            else:
                silent_since = time.monotonic()
                yield state
                if state.is_over:
                    return
            time.sleep(every)

    def wait(self, timeout: float | None = None, every: float = 0.5) -> StudyState:
        """Its state when it is done. Raises `StudyFailed` when it has ended without a model, `TimeoutError` when it has not ended.
        A node that does not answer is asked again for a minute."""
        begin = time.monotonic()
        for state in self._states(every, timeout):
            if not state.is_over and timeout is not None and time.monotonic() - begin > timeout:
                raise TimeoutError(f"{self.id} has not ended in {timeout} s")
        if state.status != "done":
            raise StudyFailed(self.id, state.status, state.why or "")
        return state

    def cancel(self) -> StudyState:
        """Ends it."""
        return StudyState.of(self._mesh._post(self._path("/cancel"), ""))

    def resume(self) -> StudyState:
        """Goes on with the round in which it ended without a result."""
        return StudyState.of(self._mesh._post(self._path("/resume"), ""))

    def file(self, name: str) -> bytes:
        """A file of it: one of `FILES`. Raises `NotFound` while there is none."""
        return self._mesh._get(self._path(f"/{quote(name, safe='')}")).content

    def onnx(self) -> bytes:
        """The model as ONNX: input `features` (records × inputs, scaled as the study says), output `probability`."""
        return self.file("model.onnx")

    def weights(self) -> dict[str, NDArray[numpy.float32]]:
        """The weights, by the names of layers. What came is checked against the digest that the study states."""
        content = self.file("model.safetensors")
        stated = self.state().sha256
        if hashlib.sha256(content).hexdigest() != stated:
            raise MeshError(0, f"the model that came is not the one whose digest is {stated}")
        return read_safetensors(content)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes every file that there is, and `study.json`, into a folder."""
        to = Path(folder)
        to.mkdir(parents=True, exist_ok=True)
        written = [to / "study.json"]
        written[0].write_text(json.dumps(dict(self.state().raw), indent=2))
        for name in FILES:
            try:
                content = self.file(name)
            except NotFound:
                continue
            (to / name).write_bytes(content)
            written.append(to / name)
        return written

    def plot(self, path: str | Path | None = None) -> Any:
        """Loss and AUROC by round, ROC and calibration as a matplotlib figure, written to `path` where one is given."""
        return _plot.plot(self.state(), None if path is None else Path(path))


def read_safetensors(content: bytes) -> dict[str, NDArray[numpy.float32]]:
    """Arrays of a safetensors file of 32-bit numbers (huggingface/safetensors, README, "Format")."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    arrays = {}
    for name, told in header.items():
        if name == "__metadata__":
            continue
        if told["dtype"] != "F32":
            raise ValueError(f"{name}: is {told['dtype']}, and only F32 is read")
        begin, end = (8 + length + offset for offset in told["data_offsets"])
        arrays[name] = numpy.frombuffer(content[begin:end], dtype="<f4").astype(numpy.float32).reshape(told["shape"])
    return arrays


def _object(answer: httpx.Response) -> dict[str, Any]:
    told = object_of(answer)
    if not told:
        raise MeshError(0, "the answer is no object")
    return told
