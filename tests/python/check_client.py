"""Checks the Python package, as a wheel, on a mesh that runs, and what others make of what the mesh gives out: ONNX models by
onnxruntime, the signed ledger by dp-accounting. Builds while the mesh still works; then reads one JSON object from standard
input. Exits with 1 and says what is wrong."""

import importlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

# Under the shifted clock of the tests, libfaketime refuses every sleep of Python 3.11 and later (EINVAL).
time.sleep = lambda seconds: select.select([], [], [], seconds)
source, work = Path(sys.argv[1]), Path(sys.argv[2])
pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
# The build leaves files beside its source: it gets a copy.
copy = work / "source"
subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
mypy = subprocess.Popen(
    [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", str(work / "mypy"), "src/medmesh"],
    cwd=source,
    stdout=subprocess.PIPE,
    text=True,
)
subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(work), str(copy)], check=True)
(wheel,) = work.glob("medmesh-*.whl")
site = work / "site"
subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
sys.path.insert(0, str(site))
import httpx
import numpy
import onnxruntime

medmesh = importlib.import_module("medmesh")
assert Path(medmesh.__file__).is_relative_to(site) and (site / "medmesh/py.typed").exists()

given = json.load(sys.stdin)
folder = Path(given["mesh"])
mesh = medmesh.Mesh.from_dir(folder)


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"not refused: {kind.__name__}")


# A study that has ended.
study = mesh.study(given["study"])
state = study.wait(timeout=60)
assert [round.round for round in study.watch()] == list(range(1, 17)), state.reports
assert state.status == "done" and state.unit == "none" and state.epsilon is None
pooled = state.evaluation.pooled
for figure in ("accuracy", "auroc", "auprc", "brier", "calibration"):
    within = pooled.intervals[figure]
    assert within.low < within.high, figure
    if figure != "calibration":
        assert within.low < getattr(pooled, figure) < within.high, figure
assert len(state.evaluation.sites) == 4 and all(site.intervals for site in state.evaluation.sites.values())
assert all(report.loss > 0 and len(report.aurocs) >= 3 for report in state.reports[:-1])
area = numpy.trapezoid(*reversed(list(zip(*state.evaluation.curves.roc))))
assert abs(area - pooled.auroc) < 0.03, (area, pooled.auroc)
weights = study.weights()
assert weights["layer0.weight"].shape == (13, 1) and weights["layer0.bias"].shape == (1,)
written = study.save(work / "out")
assert {path.name for path in written} == {*medmesh._mesh.FILES, "study.json"}
for name in ("loss", "auroc", "roc", "calibration"):
    chart = (work / "out" / f"{name}.svg").read_text()
    assert chart.startswith("<svg") and "<script" not in chart, name
study.plot(work / "curves.png")
assert (work / "curves.png").read_bytes()[:4] == b"\x89PNG"
every = [one.study for one in mesh.list()]
assert given["study"] in every
pages, path = [], "/studies?limit=1"
while path:
    told = mesh._get(path).json()
    pages += [one["study"] for one in told["items"]]
    path = told["next"] and f"/studies?limit=1&after={told['next']}"
assert pages == every and len(every) > 2, (pages, every)
refused(medmesh.MeshError, lambda: mesh._get("/studies?after=nowhere-00000000"))
refused(medmesh.MeshError, lambda: mesh._get("/studies?limit=101"))

# What a Cox model, a study with personal models and one of a single label are told as.
label = "no record that was kept from training has the label"
figures = {"records": 20, "accuracy": 0.9, "auroc": None, "auprc": None, "brier": 0.1, "calibration": 0.1, "why": label}
c = {"concordance": 0.7, "intervals": {"concordance": {"low": 0.6, "high": 0.8}}}
cox = medmesh.Evaluation.of({"pooled": c, "sites": {"us-f1": c}})
assert cox.pooled is None and cox.sites == {} and cox.concordance.interval.low == 0.6
assert cox.concordances["us-f1"].concordance == 0.7
tuned = medmesh.Evaluation.of({"pooled": figures, "sites": {}, "personal": {"pooled": figures, "sites": {"us-f1": figures}}})
assert tuned.pooled.auroc is None and tuned.pooled.why == label and tuned.concordance is None
assert tuned.personal.sites["us-f1"].accuracy == 0.9
silent = medmesh.Evaluation.of({"pooled": None, "sites": {}, "why": "of few nothing is told"})
assert silent.pooled is None and silent.why == "of few nothing is told" and tuned.why is None
twice = medmesh.StudyRefused(422, "sites: 2 of `us`\nregions[0]: none\nsites: 3 of `eu`")
assert twice.problems == {"sites": "2 of `us`\n3 of `eu`", "regions[0]": "none"}

# Where records are hidden, nothing is told by round, and there are no curves by round.
private = mesh.study(given["private"])
assert private.state().unit == "record" and not any(report.losses for report in private.state().reports)
refused(medmesh.NotFound, lambda: private.file("loss.svg"))
assert private.file("roc.svg").startswith(b"<svg")

# Explicit addresses, and studies that cannot be.
told = json.loads((folder / "mesh.json").read_text())
client = told["clients"]["data-scientist"]
with medmesh.Mesh(told["global"]["api"], key=client["key"], ca=told["ca"]) as other:
    begun = other.submit(given["text"].replace('name = "heart"', 'name = "short"'))
    assert begun.cancel().status == "cancelled"
    error = refused(medmesh.StudyFailed, lambda: begun.wait(timeout=60))
    assert error.status == "cancelled"
    wrong = given["text"].replace("quorum = 3", "quorum = 9").replace("batch = 4", "batch = 0")
    error = refused(medmesh.StudyRefused, lambda: other.submit(wrong))
    assert {"aggregation.quorum", "training.batch"} <= set(error.problems), error
    refused(medmesh.NotFound, lambda: other.study("nowhere-00000000").state())
operator = told["clients"]["operator"]
other = medmesh.Mesh(told["global"]["api"], client_id="operator", key=operator["key"], ca=told["ca"])
refused(medmesh.NotAllowed, lambda: other.submit(given["text"]))

# A node that is not there, has too much to do, is started again, or says what nobody understands.
of_round = {"sites": {}, "attempt": 1, "members": 2, "began_ms": 0, "ended_ms": 9, "bytes": 8}
of_study = {"study": "s-1", "status": "running", "rounds": 1, "progress": [of_round | {"round": 1}]}
ended = of_study | {"status": "done", "progress": [of_round | {"round": 1}, of_round | {"round": 2}]}
answers = []


def answered(request):
    one = answers.pop(0)
    if isinstance(one, Exception):
        raise one
    return httpx.Response(one[0], json=one[1], request=request)


broken = medmesh.Mesh(told["global"]["api"], key=client["key"], ca=told["ca"])
broken._http = httpx.Client(base_url="https://mesh.example/api/v1/fl", transport=httpx.MockTransport(answered))
silence = [httpx.ConnectError("gone"), (429, {"detail": "later"}), (503, None), httpx.ReadTimeout("late"), (200, ["what"])]
answers[:] = [*silence, (200, of_study), *silence, (200, ended)]
assert [report.round for report in broken.study("s-1").watch(every=0.01)] == [1, 2] and not answers
answers[:] = [*silence, (200, of_study), *silence, (200, ended)]
assert broken.study("s-1").wait(every=0.01).status == "done" and not answers
answers[:] = [httpx.ConnectError("gone")]
error = refused(medmesh.Unreachable, lambda: broken.submit(given["text"]))
assert error.status == 0 and "gone" in error.detail
problems = [{"path": "sites", "message": "has\ntwo: lines"}]
answers[:] = [(422, {"detail": "no", "problems": problems, "title": "study refused"})]
error = refused(medmesh.StudyRefused, lambda: broken.submit(given["text"]))
assert error.problems == {"sites": "has\ntwo: lines"} and error.problem["title"] == "study refused"
answers[:] = [(403, {"detail": "no"})]
refused(medmesh.NotAllowed, lambda: broken.study("s-1").wait(every=0.01))
answers[:] = [(404, {"detail": "none"})]
refused(medmesh.NotFound, lambda: broken.link("s-2"))
assert not answers

# The pages, as a browser sees them.
origin = told["global"]["api"].removesuffix("/api/v1")
with httpx.Client(verify=medmesh._mesh.ssl.create_default_context(cafile=told["ca"]), follow_redirects=True) as browser:
    assert browser.get(told["global"]["ui"]).status_code == 401
    link = mesh.link(given["study"])
    page = browser.get(link)
    assert page.status_code == 200 and page.text.count("<svg") == 4, page.status_code
    assert "<script" not in page.text and given["study"] in page.text
    assert browser.get(f"{origin}/studies/style.css").headers["content-type"].startswith("text/css")
    assert browser.get(f"{origin}/studies/{given['study']}/model.onnx").content == study.onnx()
    assert "lungs" in browser.get(f"{origin}/studies/{given['declined']}").text
    assert browser.get(link).status_code == 403
    assert browser.post(f"{origin}/studies/leave").status_code == 401

# Models, by somebody else's runtime.
for case in given["models"]:
    session = onnxruntime.InferenceSession(case["onnx"], providers=["CPUExecutionProvider"])
    (theirs,) = session.run([case["output"]], {"features": numpy.array(case["inputs"], dtype=numpy.float32)})
    apart = float(numpy.max(numpy.abs(theirs[:, 0] - numpy.array(case["outputs"]))))
    print(f"{case['onnx']}: {apart:.1e} apart")
    assert apart <= 1e-5, apart
assert len(given["models"]) >= 5

# The ledger, by whoever has the key and dp-accounting.
note, key = given["ledger"]["note"], given["ledger"]["key"]
ledger = medmesh.ledger.read(note, key)
assert len(ledger.entries) == 3 and ledger.facility == "us-f1"
ratio = ledger.spent / medmesh.ledger.epsilon(ledger.entries, ledger.delta)
print(f"ledger: ours to theirs {ratio:.5f}")
assert 1.0 <= ratio <= 1.01, ratio
forged = note.replace('"steps":1', '"steps":2')
assert forged != note
refused(medmesh.ledger.NotSigned, lambda: medmesh.ledger.read(forged, key))
for end in range(1, 8):
    cut = note.rstrip("\n")[:-end]
    refused(medmesh.ledger.NotSigned, lambda: medmesh.ledger.read(cut, key))
refused(medmesh.ledger.NotSigned, lambda: medmesh.ledger.read(note, key[:-1]))

# What the page of the documentation shows.
for block in given["python"]:
    # With everything else as it is here, a shifted clock too.
    env = os.environ | {"PYTHONPATH": str(site), "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "-c", block], cwd=given["folder"], env=env, check=True)
assert given["python"]

said, _ = mypy.communicate()
print(said)
sys.exit(mypy.returncode)
