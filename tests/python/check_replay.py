"""Compares what simulated devices emitted with what fhirpy, a FHIR client that is not ours, finds in every region.

Usage: check_replay.py DIR MEDMESH
  DIR      the folder of a running `medmesh up --dir DIR`
  MEDMESH  the binary, for `medmesh edge crosswalk`

Every line of every sent.ndjson must be found in its own region once, with decimal, unit, time (by the patient's
shift) and absence unchanged; its pseudonyms must be unknown to every other region. What became of a stay must be
found nowhere: it stays at its facility. Prints a table; exits 1 on any
difference, and shows the first of them.
"""

import collections
import datetime
import json
import pathlib
import subprocess
import sys
import types
import uuid

import fhirpy
import fhirpy.base.lib_sync as lib_sync
import jwt
import requests


class Text(str):
    """A JSON number by its text: fhirpy would read it as a binary float and lose 72.50."""


# fhirpy reads answers with its module's `json`; this one keeps the text of decimals.
lib_sync.json = types.SimpleNamespace(
    loads=lambda text, **options: json.loads(text, parse_float=Text, parse_int=Text, **options),
    JSONDecodeError=json.JSONDecodeError,
)

EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)
OUTCOME = "urn:medmesh:code|in-hospital-death"
STALE = "temp-unknown"  # what the edge says of a value that is no longer fresh; no device emits it


def token(client, region, ca):
    now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
    url = client["token_url"][region]
    claims = {"iss": client["client_id"], "sub": client["client_id"], "aud": url, "iat": now, "exp": now + 240,
              "jti": uuid.uuid4().hex}
    key = pathlib.Path(client["key"]).read_bytes()
    answer = requests.post(url, verify=ca, timeout=60, data={
        "grant_type": "client_credentials",
        "scope": client["scope"],
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(claims, key, algorithm="ES384", headers={"kid": client["kid"]}),
    })
    answer.raise_for_status()
    return answer.json()["access_token"]


def fhir(mesh, region):
    """A fhirpy client with a new token: a token lives for five minutes."""
    bearer = token(mesh["clients"]["fhir-reader"], region, mesh["ca"])
    return fhirpy.SyncFHIRClient(mesh["regions"][region]["fhir"], authorization=f"Bearer {bearer}",
                                 requests_config={"verify": mesh["ca"], "timeout": 60})


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def emitted(folder, facility, crosswalk):
    """What the facility's devices emitted, as the region should show it."""
    patients = {row["patient"]: row for row in crosswalk["patients"]}
    # What a device is called belongs to one stay of one patient: since which instant, in this order.
    called = collections.defaultdict(list)
    for row in crosswalk["devices"]:
        since = instant(row["since"]) if row["since"] else EARLIEST
        called[row["device"], row["patient"]].append((since, row["pseudonym"]))
    for line in (folder / "edge" / facility / "sent.ndjson").open():
        sent = json.loads(line)
        if sent["code"] == OUTCOME:
            continue
        patient = patients[sent["patient"]]
        time = instant(sent["time"]) + datetime.timedelta(days=patient["shift_days"])
        system, code = ("http://loinc.org", sent["code"]) if "|" not in sent["code"] else sent["code"].split("|")
        value = ("absent", sent["absent"], "") if "absent" in sent else ("value", sent["value"], sent["unit"])
        device = max(row for row in called[sent["device"], sent["patient"]] if row[0] <= instant(sent["time"]))[1]
        yield (patient["pseudonym"], device, system, code, time, *value)


def found(client, patient):
    """What the region says of a patient."""
    search = client.resources("Observation").search(patient=patient).limit(500)
    for resource in search:
        coding = resource["code"]["coding"][0]
        quantity = resource.get("valueQuantity")
        if quantity is None:
            value = ("absent", resource["dataAbsentReason"]["coding"][0]["code"], "")
            if value[1] == STALE:
                continue
        else:
            value = ("value", str(quantity["value"]), quantity["code"])
        yield (patient, resource["device"]["reference"].removeprefix("Device/"), coding["system"], coding["code"],
               instant(resource["effectiveDateTime"]), *value)


def main(folder, medmesh):
    mesh = json.loads((folder / "mesh.json").read_text())
    wrong = []
    crosswalks = {}
    for facility in mesh["facilities"]:
        config = folder / "edge" / facility["id"] / "edge.toml"
        printed = subprocess.run([medmesh, "edge", "crosswalk", "--config", config, "--json"], check=True,
                                 capture_output=True).stdout
        crosswalks[facility["id"]] = json.loads(printed)
    print(f"{'facility':<12}{'emitted':>10}{'found':>10}{'missing':>10}{'extra':>10}{'elsewhere':>10}")
    total = 0
    for facility in mesh["facilities"]:
        name, region = facility["id"], facility["region"]
        want = collections.Counter(emitted(folder, name, crosswalks[name]))
        home = fhir(mesh, region)
        pseudonyms = [row["pseudonym"] for row in crosswalks[name]["patients"]]
        have = collections.Counter(row for patient in pseudonyms for row in found(home, patient))
        missing, extra = want - have, have - want
        elsewhere = 0
        for other in mesh["regions"]:
            if other != region:
                foreign = fhir(mesh, other)
                elsewhere += sum(1 for patient in pseudonyms for _ in found(foreign, patient))
        total += sum(want.values())
        print(f"{name:<12}{sum(want.values()):>10}{sum(have.values()):>10}{sum(missing.values()):>10}"
              f"{sum(extra.values()):>10}{elsewhere:>10}")
        wrong += [("missing", row) for row in missing] + [("extra", row) for row in extra]
        wrong += [("elsewhere", name)] * elsewhere
    for kind, row in wrong[:10]:
        print(kind, row)
    if total == 0:
        print("nothing was emitted: there is nothing to compare")
    print(f"{total} emitted values compared, {len(wrong)} wrong")
    return 1 if wrong or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
