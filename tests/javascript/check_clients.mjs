// FHIR clients of npm do what their users do, against a region of a running mesh: fhir-kit-client, and SMART's own.
//
// Usage: node check_clients.mjs DIR REGION, beside a node_modules that has both, with the mesh's authority in
// NODE_EXTRA_CA_CERTS. Exits 1 at the first thing that is not as expected, and says what.
import assert from "node:assert/strict";
import { randomUUID, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { Client as Kit } from "fhir-kit-client";
import smart from "fhirclient";

const [folder, region] = process.argv.slice(2);
const mesh = JSON.parse(readFileSync(`${folder}/mesh.json`, "utf8"));
const base = mesh.regions[region].fhir;
const client = mesh.clients["fhir-writer"];
const PAGE = 5;

// SMART Backend Services, asymmetric, ES384.
async function token() {
  const [url, now] = [client.token_url[region], Math.floor(Date.now() / 1000)];
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    iss: client.client_id, sub: client.client_id, aud: url, iat: now, exp: now + 240, jti: randomUUID(),
  };
  const text = `${part({ alg: "ES384", kid: client.kid, typ: "JWT" })}.${part(claims)}`;
  const key = { key: readFileSync(client.key, "utf8"), dsaEncoding: "ieee-p1363" };
  const proof = sign("sha384", Buffer.from(text), key).toString("base64url");
  const body = new URLSearchParams({
    grant_type: "client_credentials", scope: client.scope, client_assertion: `${text}.${proof}`,
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  });
  const answer = await fetch(url, { method: "POST", body });
  assert.equal(answer.status, 200, await answer.clone().text());
  return (await answer.json()).access_token;
}

// With an identifier that nothing else has.
const condition = (patient) => ({
  resourceType: "Condition",
  identifier: [{ system: "urn:ietf:rfc:3986", value: `urn:uuid:${randomUUID()}` }],
  code: { coding: [{ system: "http://snomed.info/sct", code: "38341003" }] },
  subject: { reference: `Patient/${patient}` },
});
const named = ({ identifier: [one] }) => `${one.system}|${one.value}`;
const OTHER = "44054006";

async function withKit(bearer) {
  const kit = new Kit({ baseUrl: base, bearerToken: bearer });
  assert.equal((await kit.capabilityStatement()).fhirVersion, "4.0.1");
  const wellKnown = await kit.request(".well-known/smart-configuration");
  assert.equal(wellKnown.token_endpoint, client.token_url[region]);
  // What is newest may be of a device without a patient: each has dates shifted by its own days.
  const patients = await kit.search({ resourceType: "Patient", searchParams: { _count: 1 } });
  const patient = patients.entry[0].resource.id;
  assert.equal((await kit.read({ resourceType: "Patient", id: patient })).id, patient);
  const first = await kit.search({ resourceType: "Observation", searchParams: { patient, _count: PAGE } });
  assert.equal(first.entry.length, PAGE);
  const second = await kit.nextPage({ bundle: first });
  const ids = (bundle) => bundle.entry.map((entry) => entry.resource.id);
  assert.equal(new Set([...ids(first), ...ids(second)]).size, 2 * PAGE, "two pages share a resource");
  const resourceType = "Condition";
  const made = await kit.create({ resourceType, body: condition(patient) });
  const { id } = made;
  const changed = structuredClone(made);
  changed.code.coding[0].code = OTHER;
  assert.equal((await kit.update({ resourceType, id, body: changed })).meta.versionId, "2");
  const patch = [{ op: "replace", path: "/code/coding/0/code", value: "38341003" }];
  assert.equal((await kit.patch({ resourceType, id, jsonPatch: patch })).meta.versionId, "3");
  assert.equal((await kit.vread({ resourceType, id, version: "2" })).code.coding[0].code, OTHER);
  assert.equal((await kit.history({ resourceType, id })).entry.length, 3);
  const found = await kit.search({ resourceType, searchParams: { identifier: named(made) } });
  assert.deepEqual(ids(found), [id]);
  const referred = await kit.resolve({ reference: made.subject.reference });
  assert.equal(referred.id, patient);
  await kit.delete({ resourceType, id });
  await assert.rejects(kit.read({ resourceType, id }), (error) => error.response?.status === 410);
  return patient;
}

async function withSmart(bearer, patient) {
  const state = { serverUrl: base, tokenResponse: { access_token: bearer, token_type: "Bearer", patient } };
  const request = { headers: {}, url: "/", protocol: "https", get: () => "localhost" };
  const storage = { get: async () => state, set: async (_, value) => value, unset: async () => true };
  const one = smart(request, {}, storage).client(state);
  assert.equal((await one.patient.read()).id, patient);
  const flat = await one.request(`Observation?patient=${patient}&_count=${PAGE}`, { pageLimit: 3, flat: true });
  assert.equal(flat.length, 3 * PAGE);
  const of = await one.patient.request(`Observation?_count=${PAGE}`);
  assert.equal(of.entry.length, PAGE);
  const observation = `Observation/${flat[0].id}`;
  const { references } = await one.request(observation, { resolveReferences: ["device"], graph: false });
  assert.equal(Object.values(references)[0].resourceType, "Device");
  const made = await one.create(condition(patient));
  made.code.coding[0].code = OTHER;
  assert.equal((await one.update(made)).meta.versionId, "2");
  const patch = [{ op: "replace", path: "/code/coding/0/code", value: "38341003" }];
  assert.equal((await one.patch(`Condition/${made.id}`, patch)).meta.versionId, "3");
  await one.delete(`Condition/${made.id}`);
  await assert.rejects(one.request(`Condition/${made.id}`), (error) => error.status === 410);
}

const bearer = await token();
const patient = await withKit(bearer);
await withSmart(bearer, patient);
console.log(`fhir-kit-client and SMART's client did what their users do in ${region}`);
