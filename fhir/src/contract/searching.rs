//! What searches find: resources, queries, and what is found of them, by hand. [`crate::query::matches`] and every engine
//! have to find the same.

/// The base of the server that the resources are on.
pub const BASE: &str = "https://own.example/fhir";
/// The time of every search, ms since 1970: 2016-01-01.
pub const NOW_MS: i64 = 1_451_606_400_000;
/// Milliseconds from the storage of one resource to that of the next: the first was stored at 1970-01-01T00:00:00Z.
pub const STEP_MS: i64 = 1_000;

/// Resources, in the order in which they were stored.
pub const RESOURCES: &[&str] = &[
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
    r##"{"resourceType":"Library","id":"l1","status":"retired","type":{"coding":[{"code":"logic-library"}]},"url":"http://l/x","version":"1.0"}"##,
    r##"{"resourceType":"Library","id":"l2","status":"active","type":{"coding":[{"code":"logic-library"}]},"url":"http://l/x","version":"2.0"}"##,
    r##"{"resourceType":"Questionnaire","id":"q","status":"active","url":"http://q/x","version":"1"}"##,
    r##"{"resourceType":"QuestionnaireResponse","id":"qr","status":"completed","questionnaire":"http://q/x"}"##,
];

/// A search: the resource type, none for the whole server, the query without escapes of a URL, and the ids that it finds in
/// the order of [`RESOURCES`].
pub type Case = (&'static str, &'static str, &'static [&'static str]);

/// Texts are found without case and diacritics from their start.
const TEXTS_ARE_FOUND_WITHOUT_CASE_AND_DIACRITICS_FROM_THEIR_START: &[Case] = &[
    ("Patient", "name=muller", &["p1"]),
    ("Patient", "family=MÜLLER-LUD", &["p1"]),
    ("Patient", "name=jorg,adam", &["p1", "p2"]),
    ("Patient", "name=ludenscheidt", &[]),
    ("Patient", "name:contains=ludenscheidt", &["p1"]),
    ("Patient", "name:exact=Adams", &["p2"]),
    ("Patient", "name:exact=adams", &[]),
    ("Patient", "address=sao", &["p1"]),
    ("Patient", "address-city=SÃO  paulo", &["p1"]),
    ("Patient", "name=hans&gender=female", &[]),
];

/// Tokens are found by code and system and not does without a value too.
const TOKENS_ARE_FOUND_BY_CODE_AND_SYSTEM_AND_NOT_DOES_WITHOUT_A_VALUE_TOO: &[Case] = &[
    ("Patient", "gender=male", &["p1"]),
    (
        "Patient",
        "gender=http://hl7.org/fhir/administrative-gender|male",
        &["p1"],
    ),
    ("Patient", "gender=urn:other|male", &[]),
    ("Patient", "gender:not=male", &["p2"]),
    ("Patient", "gender:not=male,female", &[]),
    ("Patient", "active=true", &["p1"]),
    ("Patient", "active:not=true", &["p2"]),
    ("Patient", "active:missing=true", &["p2"]),
    ("Patient", "active:missing=false", &["p1"]),
    ("Patient", "identifier=123", &["p1"]),
    ("Patient", "identifier=urn:mrn|123", &["p1"]),
    ("Patient", "identifier=|123", &[]),
    ("Patient", "identifier=|bare", &["p1"]),
    ("Patient", "identifier=urn:mrn|", &["p1"]),
    (
        "Patient",
        "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|123",
        &["p1"],
    ),
    (
        "Patient",
        "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|bare",
        &[],
    ),
    ("Patient", "identifier:text=record", &["p1"]),
    ("Patient", "phone=555", &["p1"]),
    ("Patient", "telecom=phone|555", &["p1"]),
    ("Patient", "telecom=email|555", &[]),
    ("Patient", "deceased=true", &["p1"]),
    ("Patient", "_tag=t|a", &["p1"]),
    ("Patient", "_tag:not=t|a", &["p2"]),
    ("Patient", "_profile=http://p/x", &["p1"]),
    ("Patient", "_profile=http://p/x|1.0", &["p1"]),
    ("Patient", "_source=urn:s", &["p1"]),
    ("Patient", "_id=p1,p2", &["p1", "p2"]),
    ("Patient", "_id:not=p1", &["p2"]),
    ("Observation", "code=http://loinc.org|29463-7", &["a"]),
    ("Observation", "code=hr", &["b"]),
    ("Observation", "code=|hr", &["b"]),
    ("Observation", "code=http://loinc.org|", &["a", "b"]),
    ("Observation", "code:text=body", &["a"]),
    ("Observation", "code:text=weight", &["a"]),
    ("Observation", "code:not=hr,29463-7", &["c"]),
    ("Observation", "code:not=hr&code:not=29463-7", &["c"]),
    ("Observation", "status=final&code=29463-7", &["a"]),
];

/// Dates are compared as spans with every prefix.
const DATES_ARE_COMPARED_AS_SPANS_WITH_EVERY_PREFIX: &[Case] = &[
    ("Patient", "birthdate=1980-02", &["p1", "p2"]),
    ("Patient", "birthdate=1980-02-15", &["p2"]),
    ("Patient", "birthdate=ne1980-02-15", &["p1"]),
    ("Patient", "birthdate=gt1980-02-15", &["p1"]),
    ("Patient", "birthdate=ge1980-02-15", &["p1", "p2"]),
    ("Patient", "birthdate=lt1980-02-15", &["p1"]),
    ("Patient", "birthdate=le1980", &["p1", "p2"]),
    ("Patient", "birthdate=sa1980-01", &["p1", "p2"]),
    ("Patient", "birthdate=sa1980-02-10", &["p2"]),
    ("Patient", "birthdate=eb1980-02-20", &["p2"]),
    ("Patient", "birthdate=ap1981", &["p1", "p2"]),
    ("Patient", "birthdate=ap2015", &[]),
    ("Patient", "birthdate=1979,1980-02-15", &["p2"]),
    (
        "Patient",
        "birthdate=ge1980-01&birthdate=lt1980-03",
        &["p1", "p2"],
    ),
    ("Observation", "date=2015-02", &["a", "b"]),
    ("Observation", "date=2015-02-04", &["a"]),
    ("Observation", "date=gt2015-02-10", &["c"]),
    ("Observation", "date=ge2015-02-05", &["b", "c"]),
    ("Observation", "date=sa2015-02-04", &["c"]),
    ("Observation", "date=eb2015-02-11", &["a", "b"]),
    ("Observation", "date=lt2015-02-02", &["b"]),
    ("Observation", "date=ap2015-02-05", &["a", "b", "c"]),
    (
        "Observation",
        "date=gt2015-02-05T09:00:00-01:00",
        &["b", "c"],
    ),
    ("Observation", "date=sa2015-02-05T09:00:00 00:00", &["c"]),
    (
        "",
        "_lastUpdated=lt1970-01-01T00:00:02Z&_type=Patient",
        &["p1", "p2"],
    ),
    ("", "_lastUpdated=1970-01-01T00:00:02Z", &["o1"]),
    ("", "_lastUpdated=1970-01-01T00:00:02.000Z", &["o1"]),
];

/// Quantities are found in any unit of their dimension and numbers by their digits.
const QUANTITIES_ARE_FOUND_IN_ANY_UNIT_OF_THEIR_DIMENSION_AND_NUMBERS_BY_THEIR_DIGITS: &[Case] = &[
    ("Observation", "value-quantity=70", &["a", "b"]),
    (
        "Observation",
        "value-quantity=70|http://unitsofmeasure.org|kg",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=70000|http://unitsofmeasure.org|g",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=70400|http://unitsofmeasure.org|g",
        &[],
    ),
    (
        "Observation",
        "value-quantity=7e4|http://unitsofmeasure.org|g",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=ap70400|http://unitsofmeasure.org|g",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=154|http://unitsofmeasure.org|[lb_av]",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=gt69|http://unitsofmeasure.org|kg",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=gt70|http://unitsofmeasure.org|kg",
        &[],
    ),
    (
        "Observation",
        "value-quantity=ge70|http://unitsofmeasure.org|kg",
        &["a"],
    ),
    (
        "Observation",
        "value-quantity=lt4|http://unitsofmeasure.org|g",
        &["c"],
    ),
    (
        "Observation",
        "value-quantity=eb6000|http://unitsofmeasure.org|mg",
        &["c"],
    ),
    ("Observation", "value-quantity=70||beats", &["b"]),
    ("Observation", "value-quantity=70||kg", &["a"]),
    ("Observation", "value-quantity=70.0||beats", &["b"]),
    (
        "Observation",
        "component-value-quantity=1|http://unitsofmeasure.org|mg",
        &["b"],
    ),
    ("Observation", "component-code-value-quantity=c|x$1", &["b"]),
    ("Observation", "component-code-value-quantity=c|x$2", &[]),
    (
        "Observation",
        "component-code-value-quantity=x$0.002|http://unitsofmeasure.org|g,y$2",
        &["b"],
    ),
    (
        "Observation",
        "combo-code-value-quantity=29463-7$gt60",
        &["a"],
    ),
    (
        "Observation",
        "combo-code-value-quantity=y$2|http://unitsofmeasure.org|mg",
        &["b"],
    ),
    ("Observation", "code-value-quantity=y$2", &[]),
    ("RiskAssessment", "probability=0.05", &["r"]),
    ("RiskAssessment", "probability=0.2", &[]),
    ("RiskAssessment", "probability=0.1", &["r"]),
    ("RiskAssessment", "probability=gt15", &["r"]),
    ("RiskAssessment", "probability=sa15", &[]),
    ("RiskAssessment", "probability=lt0.05", &[]),
    ("RiskAssessment", "probability=le0.05", &["r"]),
];

/// References chains and what refers back are followed on this server alone.
const REFERENCES_CHAINS_AND_WHAT_REFERS_BACK_ARE_FOLLOWED_ON_THIS_SERVER_ALONE: &[Case] = &[
    ("Observation", "subject=p1", &["a"]),
    ("Observation", "subject=Patient/p1", &["a"]),
    (
        "Observation",
        "subject=https://own.example/fhir/Patient/p1",
        &["a"],
    ),
    (
        "Observation",
        "subject=https://other.example/fhir/Patient/p1",
        &["c"],
    ),
    ("Observation", "subject:Patient=p2", &["b"]),
    ("Observation", "subject:Device=p2", &[]),
    ("Observation", "patient=p1,p2", &["a", "b"]),
    ("Observation", "subject:missing=true", &[]),
    ("Observation", "subject.name=adams", &["b"]),
    (
        "Observation",
        "subject:Patient.organization.name=clinic",
        &["a"],
    ),
    (
        "Observation",
        "patient.organization.partof.name=clinic two",
        &["a"],
    ),
    ("Observation", "subject.gender:not=male", &["b"]),
    (
        "Observation",
        "subject._has:RiskAssessment:patient:probability=gt0.01",
        &["a"],
    ),
    ("Observation", "_list=l", &["a"]),
    ("Observation", "_list=nothing", &[]),
    ("Observation", "_has:List:item:status=current", &["a"]),
    ("Patient", "general-practitioner=Practitioner/d1", &["p2"]),
    (
        "Patient",
        "general-practitioner=Practitioner/d1/_history/2",
        &["p2"],
    ),
    (
        "Patient",
        "general-practitioner=Practitioner/d1/_history/3",
        &[],
    ),
    (
        "Patient",
        "general-practitioner:identifier=urn:npi|9",
        &["p2"],
    ),
    ("Patient", "general-practitioner:identifier=9", &["p2"]),
    ("Patient", "_has:Observation:patient:code=hr", &["p2"]),
    (
        "Patient",
        "_has:Observation:patient:_has:List:item:status=current",
        &["p1"],
    ),
    (
        "Patient",
        "_has:Observation:subject:value-quantity=gt60",
        &["p1", "p2"],
    ),
    ("Patient", "organization.name=clinic one", &["p1"]),
    ("Encounter", "practitioner=d1", &["e"]),
    ("Encounter", "subject=x", &[]),
    ("Encounter", "subject:missing=true", &["e"]),
];

/// Uris canonical urls and places are found.
const URIS_CANONICAL_URLS_AND_PLACES_ARE_FOUND: &[Case] = &[
    ("ValueSet", "url=http://acme.org/fhir/ValueSet/123", &["v"]),
    ("ValueSet", "url:below=http://acme.org/fhir", &["v"]),
    ("ValueSet", "url:below=http://acme.org/fh", &[]),
    (
        "ValueSet",
        "url:above=http://acme.org/fhir/ValueSet/123/_history/5",
        &["v"],
    ),
    (
        "ValueSet",
        "url:above=http://acme.org/fhir/ValueSet/1234",
        &[],
    ),
    ("PlanDefinition", "depends-on=http://l/x", &["pd"]),
    ("PlanDefinition", "depends-on=http://l/x|2.0", &["pd"]),
    ("PlanDefinition", "depends-on=http://l/x|1.0", &[]),
    ("PlanDefinition", "depends-on=Library/1", &["pd"]),
    (
        "PlanDefinition",
        "depends-on:Library.status=active",
        &["pd"],
    ),
    ("PlanDefinition", "depends-on:Library.status=retired", &[]),
    (
        "Library",
        "_has:PlanDefinition:depends-on:status=draft",
        &["l2"],
    ),
    (
        "Library",
        "_has:PlanDefinition:depends-on:status=active",
        &[],
    ),
    ("QuestionnaireResponse", "questionnaire.version=1", &["qr"]),
    (
        "Questionnaire",
        "_has:QuestionnaireResponse:questionnaire:status=completed",
        &["q"],
    ),
    ("Location", "near=48.2|16.4|3|km", &["h"]),
    ("Location", "near=48.2|16.4|1|km", &[]),
    ("Location", "near=48.2|16.4|1.8|[mi_us]", &["h"]),
    ("Location", "near=48.2|16.4|0.6|[mi_us]", &[]),
    ("Location", "near=48.2|16.4", &["h"]),
];

/// Every search.
pub const CASES: &[&[Case]] = &[
    TEXTS_ARE_FOUND_WITHOUT_CASE_AND_DIACRITICS_FROM_THEIR_START,
    TOKENS_ARE_FOUND_BY_CODE_AND_SYSTEM_AND_NOT_DOES_WITHOUT_A_VALUE_TOO,
    DATES_ARE_COMPARED_AS_SPANS_WITH_EVERY_PREFIX,
    QUANTITIES_ARE_FOUND_IN_ANY_UNIT_OF_THEIR_DIMENSION_AND_NUMBERS_BY_THEIR_DIGITS,
    REFERENCES_CHAINS_AND_WHAT_REFERS_BACK_ARE_FOLLOWED_ON_THIS_SERVER_ALONE,
    URIS_CANONICAL_URLS_AND_PLACES_ARE_FOUND,
];
