//! From resources and queries to what is found, over extraction, parsing and matching together.
use super::*;
use crate::{
    json::Json,
    query::{Context, Handling, compartment, extract, parse},
};

/// The base of this server.
const BASE: &str = "https://own.example/fhir";

/// Resources, each in one line. The time of storage of the n-th is n seconds after the epoch.
const RESOURCES: &[&str] = &[
    r##"{"resourceType":"Patient","id":"p1","meta":{"tag":[{"system":"t","code":"a"}],"profile":["http://p/x|1.0"],"source":"urn:s"},"active":true,"identifier":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR"}],"text":"Record Number"},"system":"urn:mrn","value":"123"},{"value":"bare"}],"name":[{"family":"Müller-Lüdenscheidt","given":["Hans","Jörg"]}],"telecom":[{"system":"phone","value":"555"}],"gender":"male","birthDate":"1980-02","address":[{"city":"São Paulo"}],"managingOrganization":{"reference":"Organization/o1"},"deceasedDateTime":"2020-01-01"}"##,
    r##"{"resourceType":"Patient","id":"p2","name":[{"family":"Adams"}],"gender":"female","birthDate":"1980-02-15","generalPractitioner":[{"reference":"https://own.example/fhir/Practitioner/d1/_history/2"},{"identifier":{"system":"urn:npi","value":"9"}}]}"##,
    r##"{"resourceType":"Organization","id":"o1","name":"Clinic One","partOf":{"reference":"Organization/o2"}}"##,
    r##"{"resourceType":"Organization","id":"o2","name":"Clinic Two"}"##,
    r##"{"resourceType":"Observation","id":"a","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"29463-7","display":"Body weight"}],"text":"Weight of the patient"},"subject":{"reference":"Patient/p1"},"effectiveDateTime":"2015-02-04","valueQuantity":{"value":70.0,"unit":"kg","system":"http://unitsofmeasure.org","code":"kg"}}"##,
    r##"{"resourceType":"Observation","id":"b","status":"amended","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"},{"code":"hr"}]},"subject":{"reference":"https://own.example/fhir/Patient/p2"},"effectivePeriod":{"start":"2015-02-01","end":"2015-02-10"},"valueQuantity":{"value":70,"unit":"beats"},"component":[{"code":{"coding":[{"system":"c","code":"x"}]},"valueQuantity":{"value":1,"system":"http://unitsofmeasure.org","code":"mg"}},{"code":{"coding":[{"system":"c","code":"y"}]},"valueQuantity":{"value":2,"system":"http://unitsofmeasure.org","code":"mg"}}]}"##,
    r##"{"resourceType":"Observation","id":"c","status":"final","code":{"text":"Other"},"subject":{"reference":"https://other.example/fhir/Patient/p1"},"effectivePeriod":{"start":"2015-02-05T10:00:00Z"},"valueQuantity":{"value":5,"comparator":"<","system":"http://unitsofmeasure.org","code":"g"}}"##,
    r##"{"resourceType":"ValueSet","id":"v","url":"http://acme.org/fhir/ValueSet/123","status":"draft"}"##,
    r##"{"resourceType":"List","id":"l","status":"current","mode":"working","entry":[{"item":{"reference":"Observation/a"}}]}"##,
    r##"{"resourceType":"RiskAssessment","id":"r","status":"final","subject":{"reference":"Patient/p1"},"prediction":[{"probabilityDecimal":0.05},{"probabilityRange":{"low":{"value":10},"high":{"value":20}}}]}"##,
    r##"{"resourceType":"Location","id":"h","status":"active","position":{"latitude":48.2,"longitude":16.37}}"##,
    r##"{"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"subject":{"reference":"#x"},"contained":[{"resourceType":"Patient","id":"x"}],"participant":[{"individual":{"reference":"Practitioner/d1"}}]}"##,
    r##"{"resourceType":"PlanDefinition","id":"pd","status":"draft","library":["http://l/x|2.0"],"relatedArtifact":[{"type":"depends-on","resource":"https://own.example/fhir/Library/1"}]}"##,
];

fn found(kind: &str, query: &str) -> Vec<String> {
    let trees: Vec<Json<'_>> = RESOURCES
        .iter()
        .map(|text| Json::parse(text).expect("JSON"))
        .collect();
    let rows: Vec<Vec<IndexRow>> = trees.iter().map(|tree| extract(tree, BASE)).collect();
    let all: Vec<Found<'_>> = trees
        .iter()
        .zip(&rows)
        .enumerate()
        .map(|(at, (tree, rows))| Found {
            resource_type: tree
                .object()
                .and_then(|object| object.text("resourceType"))
                .expect("a type"),
            id: tree
                .object()
                .and_then(|object| object.text("id"))
                .expect("an id"),
            last_updated: i64::try_from(at).expect("few") * 1_000,
            rows,
        })
        .collect();
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = Context {
        // 2016-01-01.
        now: 1_451_606_400_000,
        base: BASE,
        handling: Handling::Strict,
    };
    let kind = Some(kind).filter(|kind| !kind.is_empty());
    let search =
        parse(kind, &pairs, context).unwrap_or_else(|problem| panic!("{query}: {problem}"));
    all.iter()
        .filter(|one| matches(&search, one, &all))
        .map(|one| one.id.to_owned())
        .collect()
}

fn check(kind: &str, table: &[(&str, &[&str])]) {
    for (query, expected) in table {
        assert_eq!(&found(kind, query), expected, "{kind}?{query}");
    }
}

#[test]
fn texts_are_found_without_case_and_diacritics_from_their_start() {
    check(
        "Patient",
        &[
            ("name=muller", &["p1"]),
            ("family=MÜLLER-LUD", &["p1"]),
            ("name=jorg,adam", &["p1", "p2"]),
            ("name=ludenscheidt", &[]),
            ("name:contains=ludenscheidt", &["p1"]),
            ("name:exact=Adams", &["p2"]),
            ("name:exact=adams", &[]),
            ("address=sao", &["p1"]),
            ("address-city=SÃO  paulo", &["p1"]),
            ("name=hans&gender=female", &[]),
        ],
    );
}

#[test]
fn tokens_are_found_by_code_and_system_and_not_does_without_a_value_too() {
    check(
        "Patient",
        &[
            ("gender=male", &["p1"]),
            (
                "gender=http://hl7.org/fhir/administrative-gender|male",
                &["p1"],
            ),
            ("gender=urn:other|male", &[]),
            ("gender:not=male", &["p2"]),
            ("gender:not=male,female", &[]),
            ("active=true", &["p1"]),
            ("active:not=true", &["p2"]),
            ("active:missing=true", &["p2"]),
            ("active:missing=false", &["p1"]),
            ("identifier=123", &["p1"]),
            ("identifier=urn:mrn|123", &["p1"]),
            ("identifier=|123", &[]),
            ("identifier=|bare", &["p1"]),
            ("identifier=urn:mrn|", &["p1"]),
            (
                "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|123",
                &["p1"],
            ),
            (
                "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|bare",
                &[],
            ),
            ("identifier:text=record", &["p1"]),
            ("phone=555", &["p1"]),
            ("telecom=phone|555", &["p1"]),
            ("telecom=email|555", &[]),
            ("deceased=true", &["p1"]),
            ("_tag=t|a", &["p1"]),
            ("_tag:not=t|a", &["p2"]),
            ("_profile=http://p/x", &["p1"]),
            ("_profile=http://p/x|1.0", &["p1"]),
            ("_source=urn:s", &["p1"]),
            ("_id=p1,p2", &["p1", "p2"]),
            ("_id:not=p1", &["p2"]),
        ],
    );
    check(
        "Observation",
        &[
            ("code=http://loinc.org|29463-7", &["a"]),
            ("code=hr", &["b"]),
            ("code=|hr", &["b"]),
            ("code=http://loinc.org|", &["a", "b"]),
            ("code:text=body", &["a"]),
            ("code:text=weight", &["a"]),
            ("code:not=hr,29463-7", &["c"]),
            ("code:not=hr&code:not=29463-7", &["c"]),
            ("status=final&code=29463-7", &["a"]),
        ],
    );
}

#[test]
fn dates_are_compared_as_spans_with_every_prefix() {
    check(
        "Patient",
        &[
            ("birthdate=1980-02", &["p1", "p2"]),
            ("birthdate=1980-02-15", &["p2"]),
            ("birthdate=ne1980-02-15", &["p1"]),
            ("birthdate=gt1980-02-15", &["p1"]),
            ("birthdate=ge1980-02-15", &["p1", "p2"]),
            ("birthdate=lt1980-02-15", &["p1"]),
            ("birthdate=le1980", &["p1", "p2"]),
            ("birthdate=sa1980-01", &["p1", "p2"]),
            ("birthdate=sa1980-02-10", &["p2"]),
            ("birthdate=eb1980-02-20", &["p2"]),
            ("birthdate=ap1981", &["p1", "p2"]),
            ("birthdate=ap2015", &[]),
            ("birthdate=1979,1980-02-15", &["p2"]),
            ("birthdate=ge1980-01&birthdate=lt1980-03", &["p1", "p2"]),
        ],
    );
    check(
        "Observation",
        &[
            ("date=2015-02", &["a", "b"]),
            ("date=2015-02-04", &["a"]),
            ("date=gt2015-02-10", &["c"]),
            ("date=ge2015-02-05", &["b", "c"]),
            ("date=sa2015-02-04", &["c"]),
            ("date=eb2015-02-11", &["a", "b"]),
            ("date=lt2015-02-02", &["b"]),
            ("date=ap2015-02-05", &["a", "b", "c"]),
            ("date=gt2015-02-05T09:00:00-01:00", &["b", "c"]),
            ("date=sa2015-02-05T09:00:00 00:00", &["c"]),
        ],
    );
    check(
        "",
        &[
            (
                "_lastUpdated=lt1970-01-01T00:00:02Z&_type=Patient",
                &["p1", "p2"],
            ),
            ("_lastUpdated=1970-01-01T00:00:02Z", &["o1"]),
            ("_lastUpdated=1970-01-01T00:00:02.000Z", &["o1"]),
        ],
    );
}

#[test]
fn quantities_are_found_in_any_unit_of_their_dimension_and_numbers_by_their_digits() {
    check(
        "Observation",
        &[
            ("value-quantity=70", &["a", "b"]),
            ("value-quantity=70|http://unitsofmeasure.org|kg", &["a"]),
            ("value-quantity=70000|http://unitsofmeasure.org|g", &["a"]),
            ("value-quantity=70400|http://unitsofmeasure.org|g", &[]),
            ("value-quantity=7e4|http://unitsofmeasure.org|g", &["a"]),
            ("value-quantity=ap70400|http://unitsofmeasure.org|g", &["a"]),
            (
                "value-quantity=154|http://unitsofmeasure.org|[lb_av]",
                &["a"],
            ),
            ("value-quantity=gt69|http://unitsofmeasure.org|kg", &["a"]),
            ("value-quantity=gt70|http://unitsofmeasure.org|kg", &[]),
            ("value-quantity=ge70|http://unitsofmeasure.org|kg", &["a"]),
            ("value-quantity=lt4|http://unitsofmeasure.org|g", &["c"]),
            ("value-quantity=eb6000|http://unitsofmeasure.org|mg", &["c"]),
            ("value-quantity=70||beats", &["b"]),
            ("value-quantity=70||kg", &["a"]),
            ("value-quantity=70.0||beats", &["b"]),
            (
                "component-value-quantity=1|http://unitsofmeasure.org|mg",
                &["b"],
            ),
            ("component-code-value-quantity=c|x$1", &["b"]),
            ("component-code-value-quantity=c|x$2", &[]),
            (
                "component-code-value-quantity=x$0.002|http://unitsofmeasure.org|g,y$2",
                &["b"],
            ),
            ("combo-code-value-quantity=29463-7$gt60", &["a"]),
            (
                "combo-code-value-quantity=y$2|http://unitsofmeasure.org|mg",
                &["b"],
            ),
            ("code-value-quantity=y$2", &[]),
        ],
    );
    check(
        "RiskAssessment",
        &[
            ("probability=0.05", &["r"]),
            ("probability=0.2", &[]),
            ("probability=0.1", &["r"]),
            ("probability=gt15", &["r"]),
            ("probability=sa15", &[]),
            ("probability=lt0.05", &[]),
            ("probability=le0.05", &["r"]),
        ],
    );
}

#[test]
fn references_chains_and_what_refers_back_are_followed_on_this_server_alone() {
    check(
        "Observation",
        &[
            ("subject=p1", &["a"]),
            ("subject=Patient/p1", &["a"]),
            ("subject=https://own.example/fhir/Patient/p1", &["a"]),
            ("subject=https://other.example/fhir/Patient/p1", &["c"]),
            ("subject:Patient=p2", &["b"]),
            ("subject:Device=p2", &[]),
            ("patient=p1,p2", &["a", "b"]),
            ("subject:missing=true", &[]),
            ("subject.name=adams", &["b"]),
            ("subject:Patient.organization.name=clinic", &["a"]),
            ("patient.organization.partof.name=clinic two", &["a"]),
            ("subject.gender:not=male", &["b"]),
            ("_list=l", &["a"]),
            ("_list=nothing", &[]),
            ("_has:List:item:status=current", &["a"]),
        ],
    );
    check(
        "Patient",
        &[
            ("general-practitioner=Practitioner/d1", &["p2"]),
            ("general-practitioner=Practitioner/d1/_history/2", &["p2"]),
            ("general-practitioner=Practitioner/d1/_history/3", &[]),
            ("general-practitioner:identifier=urn:npi|9", &["p2"]),
            ("general-practitioner:identifier=9", &["p2"]),
            ("_has:Observation:patient:code=hr", &["p2"]),
            (
                "_has:Observation:patient:_has:List:item:status=current",
                &["p1"],
            ),
            (
                "_has:Observation:subject:value-quantity=gt60",
                &["p1", "p2"],
            ),
            ("organization.name=clinic one", &["p1"]),
        ],
    );
    check(
        "Encounter",
        &[
            ("practitioner=d1", &["e"]),
            ("subject=x", &[]),
            ("subject:missing=true", &["e"]),
        ],
    );
}

#[test]
fn uris_canonical_urls_and_places_are_found() {
    check(
        "ValueSet",
        &[
            ("url=http://acme.org/fhir/ValueSet/123", &["v"]),
            ("url:below=http://acme.org/fhir", &["v"]),
            ("url:below=http://acme.org/fh", &[]),
            (
                "url:above=http://acme.org/fhir/ValueSet/123/_history/5",
                &["v"],
            ),
            ("url:above=http://acme.org/fhir/ValueSet/1234", &[]),
        ],
    );
    check(
        "PlanDefinition",
        &[
            ("depends-on=http://l/x", &["pd"]),
            ("depends-on=http://l/x|2.0", &["pd"]),
            ("depends-on=http://l/x|1.0", &[]),
            ("depends-on=Library/1", &["pd"]),
        ],
    );
    check(
        "Location",
        &[
            ("near=48.2|16.4|3|km", &["h"]),
            ("near=48.2|16.4|1|km", &[]),
            ("near=48.2|16.4", &["h"]),
        ],
    );
}

#[test]
fn a_compartment_has_what_refers_to_its_resource_and_the_resource_itself() {
    let patient = |kind: &str| compartment("Patient", "p1", kind);
    assert!(patient("Organization").is_none() && patient("Observation").is_some());
    let tree = Json::parse(RESOURCES[0]).expect("JSON");
    let rows = extract(&tree, BASE);
    let found = |id| Found {
        resource_type: "Patient",
        id,
        last_updated: 0,
        rows: &rows,
    };
    let filter = patient("Patient").expect("patients are in their own");
    assert!(holds(&filter, &found("p1"), &[]) && !holds(&filter, &found("p9"), &[]));
    let tree = Json::parse(RESOURCES[4]).expect("JSON");
    let rows = extract(&tree, BASE);
    let observation = Found {
        resource_type: "Observation",
        id: "a",
        last_updated: 0,
        rows: &rows,
    };
    assert!(holds(
        &patient("Observation").expect("in it"),
        &observation,
        &[]
    ));
    let other = compartment("Patient", "p2", "Observation").expect("in it");
    assert!(!holds(&other, &observation, &[]));
}
