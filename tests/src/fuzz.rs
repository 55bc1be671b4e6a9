//! The parsers of everything that comes from outside, as functions of bytes: whatever the bytes are, a parser returns,
//! soon and without a panic. `cargo xtask test` feeds each a bounded number of mutations of its corpus
//! (`tests/fuzz/corpus/NAME`), `cargo xtask fuzz` as many as there is time for.
#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fhir::{bases::Bases, query, search, store::ResourceType, validate};
use node::{config::parse, token::Unverified};
use prost::Message as _;
use types::Timestamp;

/// A parser.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its folder of inputs.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
}

/// Every parser.
pub const TARGETS: &[Target] = &[
    Target {
        name: "fhir-json",
        run: fhir_json,
    },
    Target {
        name: "fhir-patch",
        run: fhir_patch,
    },
    Target {
        name: "fhir-query",
        run: fhir_query,
    },
    Target {
        name: "fhirpath",
        run: fhirpath,
    },
    Target {
        name: "jwt",
        run: jwt,
    },
    Target {
        name: "modbus",
        run: modbus,
    },
    Target {
        name: "mqtt",
        run: mqtt,
    },
    Target {
        name: "parcel",
        run: parcel,
    },
    Target {
        name: "receipt",
        run: receipt,
    },
    Target {
        name: "stays",
        run: device_fw::sim::fuzzing::stays,
    },
    Target {
        name: "toml",
        run: toml,
    },
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

fn fhir_json(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _refused = validate::validate(text);
        let _refused = fhir::r4::validate(text);
    }
}

/// `name=value` pairs, split as the query of a URL is.
fn fhir_query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs: Vec<(String, String)> = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = search::Context {
        now: Timestamp(0),
        base: Bases::of("https://region.example/fhir"),
    };
    for kind in ResourceType::DELIVERED {
        let _refused = search::parse(kind, &pairs, context);
    }
    for handling in [query::Handling::Strict, query::Handling::Lenient] {
        let context = query::Context {
            now: 0,
            base: Bases::of("https://region.example/fhir"),
            handling,
        };
        for kind in [Some("Observation"), Some("Patient"), None] {
            let _refused = query::parse(kind, &pairs, context);
        }
    }
}

/// A line with an expression, and the resource that it is evaluated on; what is searched of it too.
fn fhirpath(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (expression, resource) = text.split_once('\n').unwrap_or((&text, ""));
    let path = fhir::fhirpath::Path::parse(expression);
    let Ok(json) = fhir::json::Json::parse(resource) else {
        return;
    };
    let _rows = query::extract(&json, "https://region.example/fhir");
    if let Ok(path) = path {
        let _values = path.evaluate(&json, fhir::fhirpath::Surroundings::default());
    }
}

/// A line with a resource, and a patch of it: what comes out is read again.
fn fhir_patch(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (resource, patch) = text.split_once('\n').unwrap_or((&text, ""));
    for patched in [
        fhir::patch::json_patch(resource, patch),
        fhir::patch::fhirpath_patch(resource, patch),
    ]
    .into_iter()
    .flatten()
    {
        assert!(
            fhir::json::Json::parse(&patched).is_ok(),
            "a patch makes JSON"
        );
        let _shown = fhir::shape::show(&patched, &fhir::shape::View::Summary);
    }
}

/// A client assertion: a line of its header and what else is of its claims, so that mutations reach behind the base64.
fn jwt(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _refused = Unverified::read(&text);
    let (head, claims) = text.split_once('\n').unwrap_or((&text, ""));
    let part = |json: &str| BASE64.encode(json);
    let assertion = format!("{}.{}.c2ln", part(head), part(claims));
    let _refused = Unverified::read(&assertion);
}

/// A configuration; that of the global node is the shortest, and all are read by the same reader.
fn toml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(problems) = parse::<global::config::GlobalConfig>(&text, []) {
        assert!(!problems.is_empty(), "refused without a problem");
    }
}

/// What comes on a line, as TCP and as RTU: the first six bytes say what was asked.
fn modbus(bytes: &[u8]) {
    let _answers = modbus::probe(bytes);
}

/// Packets of a client: the first byte says the version.
fn mqtt(bytes: &[u8]) {
    let _packets = broker::fuzzing::packets(bytes);
}

/// A parcel and, when it is one, the message that it carries.
fn parcel(bytes: &[u8]) {
    use federation::{
        envelope::{self, Intact},
        wire::Parcel,
    };
    use messages::{DeviceRecords, ReadingBatch};
    if let Ok(mut parcel) = Parcel::decode(bytes) {
        parcel.digest = envelope::digest(&parcel.body);
        let Some(parcel) = Intact::new(parcel) else {
            return;
        };
        let _refused = envelope::open::<ReadingBatch>(&parcel);
        let _refused = envelope::open::<DeviceRecords>(&parcel);
        let _refused = ReadingBatch::decode(parcel.body.clone());
        let _refused = DeviceRecords::decode(parcel.body.clone());
    }
}

fn receipt(bytes: &[u8]) {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    if let Ok(receipt) = federation::wire::Receipt::decode(bytes) {
        let _forged = federation::receipt::verify(&receipt, &key);
    }
}
