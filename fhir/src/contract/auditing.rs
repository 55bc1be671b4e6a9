//! Promises of the AuditEvents that the server itself makes.
use super::{Engine, fixture};
use crate::admit::Holding;
use crate::audit::{self, AUDIT_EVENT, Ended, Logged, OwnEvents, PLACE, Whom};
use crate::bases::Bases;
use crate::query::{Context, Filter, Handling, parse_conditions};
use crate::store::{
    Change, Draft, Expect, FhirId, Find, HistoryQuery, ResourceStore, ResourceType, Scope,
    Transacted, Transaction, Unmet,
};
use std::sync::Arc;
use types::{FacilityPseudonym, Timestamp};

const NOW: i64 = 1_800_000_000_000;

fn kind() -> ResourceType {
    ResourceType::parse(AUDIT_EVENT).unwrap()
}

fn id(number: u8) -> FhirId {
    audit::own_id(b"secret", "regional/eu/eu", u64::from(number), &[number]).unwrap()
}

fn facility(number: u32) -> FacilityPseudonym {
    fixture::source(number).fresh
}

/// A read of patient 1 by `reader`, at a facility of its own.
fn event(number: u8) -> (Draft, Option<FacilityPseudonym>) {
    let request = format!("{number:064x}");
    let patient = fixture::patient_id(1).to_string().parse().unwrap();
    let logged = Logged {
        interaction: "search-type",
        asked: "Observation?code&patient",
        ended: Ended::Given,
        client: "reader",
        place: "regional/eu/eu",
        count: 3,
        whom: Whom::Patient(patient),
        request: &request,
        recorded: Some(Timestamp(NOW)),
    };
    let draft = audit::event(id(number), &logged).unwrap();
    (draft, Some(facility(1)))
}

fn batch(numbers: &[u8], dropped: &[u8], place: &str) -> OwnEvents {
    OwnEvents {
        events: numbers.iter().map(|number| event(*number)).collect(),
        dropped: dropped.iter().map(|number| id(*number)).collect(),
        place: place.into(),
        now: NOW,
    }
}

async fn found(store: &dyn ResourceStore, query: &str) -> Vec<String> {
    let pairs = crate::rest::pairs_of(query).unwrap();
    let context = Context {
        now: NOW,
        base: Bases::of("https://region.example/fhir"),
        handling: Handling::Strict,
    };
    let filter = parse_conditions(AUDIT_EVENT, &pairs, context).unwrap();
    find(store, filter).await
}

async fn find(store: &dyn ResourceStore, filter: Filter) -> Vec<String> {
    let page = store.find(&Find::of(kind(), filter, 100)).await.unwrap();
    let ids = page.resources.iter().map(|one| one.id.to_string());
    let mut ids: Vec<String> = ids.collect();
    ids.sort_unstable();
    ids
}

fn sorted(numbers: &[u8]) -> Vec<String> {
    let mut ids: Vec<String> = numbers.iter().map(|one| id(*one).to_string()).collect();
    ids.sort_unstable();
    ids
}

async fn change(store: &dyn ResourceStore, change: Change) -> Transacted {
    let transaction = Transaction {
        author: "writer".into(),
        now: Timestamp(NOW),
        changes: vec![change],
        guards: Vec::new(),
    };
    store.transact(transaction).await.unwrap()
}

async fn versions(store: &dyn ResourceStore) -> usize {
    ids_in(store, Scope::Type(kind())).await.len()
}

async fn ids_in(store: &dyn ResourceStore, scope: Scope) -> Vec<String> {
    let query = HistoryQuery {
        scope,
        commits: None,
        updated: None,
        there: None,
        by_id: false,
        after: None,
        count: 100,
    };
    let page = store.history(&query).await.unwrap();
    page.versions.iter().map(|one| one.id.to_string()).collect()
}

pub async fn the_servers_own_events_are_stored_once_found_by_every_parameter_and_no_clients_to_change(
    engine: &dyn Engine,
) {
    let store: Arc<dyn ResourceStore> = engine.open().await;
    let store = super::Redelivering(store);
    store.keep_audit(batch(&[1, 2], &[], "2")).await.unwrap();
    // As after a crash that lost the place: what is there changes nothing, what is new is stored.
    store.keep_audit(batch(&[2, 3], &[], "3")).await.unwrap();
    assert_eq!(store.marks(PLACE).await.unwrap().as_deref(), Some("3"));
    assert_eq!(store.head().await.unwrap(), 3);
    assert_eq!(versions(&store).await, 3);
    let patient = fixture::patient_id(1);
    for query in [
        "action=E".to_owned(),
        "agent:identifier=urn:medmesh:client|reader".to_owned(),
        "agent-name=reader".to_owned(),
        "altid=reader".to_owned(),
        "date=2027-01-15".to_owned(),
        format!("entity=Patient/{patient}"),
        "entity-name:contains=patient".to_owned(),
        "entity-role=24".to_owned(),
        "entity-type=http://hl7.org/fhir/resource-types|Observation".to_owned(),
        "outcome=0".to_owned(),
        format!("patient=Patient/{patient}"),
        "site=regional/eu/eu".to_owned(),
        "source:identifier=urn:medmesh:place|regional/eu/eu".to_owned(),
        "subtype=search-type".to_owned(),
        "type=rest".to_owned(),
        format!("_source=urn:medmesh:facility:{}", facility(1)),
    ] {
        assert_eq!(found(&store, &query).await, sorted(&[1, 2, 3]), "{query}");
    }
    for query in [
        "address=a".to_owned(),
        "agent-role=a".to_owned(),
        "policy=urn:a".to_owned(),
        "agent-name=other".to_owned(),
        format!("_source=urn:medmesh:facility:{}", facility(2)),
    ] {
        assert_eq!(found(&store, &query).await, sorted(&[]), "{query}");
    }
    let stored = store.read(kind(), &id(1)).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.source), (1, Some(facility(1))));
    assert_eq!(stored.updated, Timestamp(NOW));
    let put = Change::Put {
        draft: event(1).0,
        expect: Expect::Anything,
    };
    let delete = Change::Delete {
        kind: kind(),
        id: id(1),
        expect: Expect::Version(1),
    };
    for one in [put, delete] {
        let unmet = Transacted::Unmet {
            at: 0,
            why: Unmet::Delivered,
        };
        assert_eq!(change(&store, one).await, unmet);
    }
}

pub async fn what_is_dropped_leaves_nothing_and_what_a_client_wrote_stays(engine: &dyn Engine) {
    let store = engine.open().await;
    store.keep_audit(batch(&[1, 2], &[], "2")).await.unwrap();
    let own = r#"{"resourceType":"AuditEvent","type":{"code":"rest"},"recorded":"2027-01-15T00:00:00Z",
        "agent":[{"name":"writer","requestor":true}],"source":{"observer":{"display":"a"}}}"#;
    let draft = Draft::parse(&Holding::Identified, kind(), id(9), own, "").unwrap();
    let put = Change::Put {
        draft,
        expect: Expect::Absent,
    };
    assert!(matches!(change(&*store, put).await, Transacted::Done(_)));
    store
        .keep_audit(batch(&[3], &[1, 7, 9], "3"))
        .await
        .unwrap();
    assert_eq!(found(&*store, "agent-name=reader").await, sorted(&[2, 3]));
    assert_eq!(found(&*store, "agent-name=writer").await, sorted(&[9]));
    // What the server made is told apart from what a client wrote, whatever its id, and is not in the history of everything.
    let no_own = Filter::Not(Box::new(Filter::Own));
    assert_eq!(find(&*store, Filter::Own).await, sorted(&[2, 3]));
    assert_eq!(find(&*store, no_own).await, sorted(&[9]));
    assert_eq!(ids_in(&*store, Scope::Everything).await, sorted(&[9]));
    assert_eq!(versions(&*store).await, 3);
    assert_eq!(store.read(kind(), &id(1)).await.unwrap(), None);
    assert_eq!(store.vread(kind(), &id(1), 1).await.unwrap(), None);
}
