"""FHIR clients of PyPI do what their users do, against a region of a running mesh: fhirpy, fhirclient (SMART), and
fhir.resources as the models of what is sent and read.

Usage: check_clients.py DIR REGION
  DIR     the folder of a running `medmesh up --dir DIR`
  REGION  a region of it that has a patient

Exits 1 at the first thing that is not as expected, and says what. fhirclient and fhir.resources refuse what is not R4
(fhir.resources has R4B, which is R4 but for what is not sent here), so whatever they read is judged besides.
"""

import itertools
import json
import os
import pathlib
import sys
import uuid

import fhirpy
import requests
from check_replay import token
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.condition import Condition as Model
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle as SmartBundle
from fhirclient.models.condition import Condition
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

SNOMED = "http://snomed.info/sct"
PAGE = 5


def condition(patient, code="38341003"):
    """A Condition with an identifier that nothing else has."""
    return {
        "resourceType": "Condition",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.uuid4()}"}],
        "code": {"coding": [{"system": SNOMED, "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
    }


def named(resource):
    one = resource["identifier"][0]
    return f"{one['system']}|{one['value']}"


def same(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def refused(what, error, act):
    try:
        act()
    except error:
        return
    sys.exit(f"{what} was not refused")


def with_fhirpy(base, bearer, ca):
    client = fhirpy.SyncFHIRClient(base, authorization=f"Bearer {bearer}", requests_config={"verify": ca, "timeout": 60})
    # What is newest may be of a device without a patient, or of any patient: each has dates shifted by its own days.
    found = client.resources("Patient").first()
    patient = client.reference(reference=f"Patient/{found['id']}").to_resource()
    observations = client.resources("Observation").search(patient=patient["id"])
    read = list(itertools.islice(observations.limit(PAGE), 3 * PAGE))
    same("fhirpy: three pages", len({one["id"] for one in read}), 3 * PAGE)
    made = client.resource("Condition", **condition(patient["id"]))
    made.save()
    found = client.resources("Condition").search(identifier=named(made)).fetch()
    same("fhirpy: what was created is found", [one["id"] for one in found], [made["id"]])
    made["code"]["coding"][0]["code"] = "44054006"
    made.save()
    same("fhirpy: the second version", made["meta"]["versionId"], "2")
    follows = made["subject"].to_resource() if hasattr(made["subject"], "to_resource") else None
    if follows is not None:
        same("fhirpy: a reference leads on", follows["id"], patient["id"])
    everything = patient.execute("$everything", method="get", params={"_count": PAGE})
    same("fhirpy: $everything", everything["resourceType"], "Bundle")
    refused("fhirpy: what identifies", OperationOutcome, lambda: client.resource(
        "Condition", **condition(patient["id"]), note=[{"text": "Jane Doe"}]).save())
    made.delete()
    refused("fhirpy: what was deleted", ResourceNotFound, lambda: client.reference("Condition", made["id"]).to_resource())
    return patient["id"]


def with_long_bundle(base, bearer, ca, patient):
    """A transaction may be longer than most bodies, and a resource has a longest one."""
    made = [condition(patient) for _ in range(480)]
    entries = [{"resource": one, "request": {"method": "POST", "url": "Condition"}} for one in made]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/fhir+json"}
    text = json.dumps(bundle)
    if len(text) <= 131_072:
        sys.exit("requests: the Bundle is not long")
    answer = requests.post(base, data=text, headers=headers, verify=ca, timeout=60)
    same("requests: a long transaction", answer.status_code, 200)
    statuses = {one["response"]["status"].split()[0] for one in answer.json()["entry"]}
    same("requests: each of its entries", statuses, {"201"})
    long = json.dumps(made[0] | {"extension": [{"url": "http://example.org/" + "a" * (3 << 19), "valueBoolean": True}]})
    answer = requests.post(f"{base}/Condition", data=long, headers=headers, verify=ca, timeout=60)
    same("requests: a long resource", answer.status_code, 413)


def with_fhirclient(base, bearer, ca, patient):
    os.environ["REQUESTS_CA_BUNDLE"] = ca  # it asks for the statement before it can be told of an authority
    smart = FHIRClient(settings={"app_id": "check", "api_base": base})
    server = smart.server
    server.session.headers["Authorization"] = f"Bearer {bearer}"
    same("fhirclient: the statement", server.capabilityStatement.fhirVersion, "4.0.1")
    same("fhirclient: a read", Patient.read(patient, server).id, patient)
    search = Observation.where(struct={"patient": patient, "_count": str(PAGE), "_sort": "-date"})
    page = search.perform(server)
    same("fhirclient: a page", len(page.entry), PAGE)
    pages = 0
    for one in search.perform_iter(server):
        pages += 1
        if not isinstance(one, SmartBundle) or not one.entry:
            sys.exit("fhirclient: a page is none")
        if pages == 3:
            break
    same("fhirclient: the links lead on", pages, 3)
    new = Condition(condition(patient))
    made = new.create(server)
    stored = Condition.read(made["id"], server)
    same("fhirclient: what was created", stored.code.coding[0].code, "38341003")
    stored.code.coding[0].code = "44054006"
    stored.update(server)
    found = Condition.where(struct={"identifier": named(made)}).perform_resources(server)
    same("fhirclient: what was changed", [one.code.coding[0].code for one in found], ["44054006"])
    stored.delete(server)
    same("fhirclient: what was deleted",
         Condition.where(struct={"identifier": named(made)}).perform_resources(server), [])


def with_models(base, bearer, ca, patient):
    session = requests.Session()
    session.verify = ca
    session.headers.update({"Authorization": f"Bearer {bearer}", "Content-Type": "application/fhir+json"})

    def get(path):
        answer = session.get(f"{base}/{path}", timeout=60)
        answer.raise_for_status()
        return answer.text

    statement = CapabilityStatement.model_validate_json(get("metadata"))
    same("fhir.resources: the statement", statement.rest[0].mode, "server")
    for search in (f"Patient?_id={patient}&_revinclude=Condition:subject",
                   f"Observation?patient={patient}&_include=Observation:device&_count={PAGE}", "Device?_count=5",
                   f"Patient/{patient}/$everything?_count={PAGE}", "Observation/_history?_count=5"):
        read = Bundle.model_validate_json(get(search))
        if not read.entry:
            sys.exit(f"fhir.resources: {search} finds nothing")
    model = Model.model_validate(condition(patient))
    made = session.post(f"{base}/Condition", data=model.model_dump_json(), timeout=60)
    same("fhir.resources: a model is created", made.status_code, 201)
    back = Model.model_validate_json(made.text)
    same("fhir.resources: it comes back", back.code.coding[0].code, model.code.coding[0].code)
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": condition(patient), "request": {"method": "POST", "url": "Condition"}} for _ in range(3)]}
    done = session.post(base, data=Bundle.model_validate(bundle).model_dump_json(), timeout=60)
    answers = Bundle.model_validate_json(done.text).entry
    same("fhir.resources: a transaction", [one.response.status[:3] for one in answers], ["201"] * 3)
    gone = session.delete(f"{base}/Condition/{back.id}", timeout=60)
    same("fhir.resources: it goes", gone.status_code, 204)


def main(folder, region):
    mesh = json.loads((folder / "mesh.json").read_text())
    base, ca = mesh["regions"][region]["fhir"], mesh["ca"]
    bearer = token(mesh["clients"]["fhir-writer"], region, ca)
    patient = with_fhirpy(base, bearer, ca)
    with_long_bundle(base, bearer, ca, patient)
    with_fhirclient(base, bearer, ca, patient)
    with_models(base, bearer, ca, patient)
    print(f"fhirpy, fhirclient and fhir.resources did what their users do in {region}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
