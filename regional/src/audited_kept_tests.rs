//! Tests of AuditEvents that are made again, doubled or taken away: of a place or a store that is put back, and of how many
//! rows they are kept.
use super::*;

/// All of the log, by a projector that begins where the store says.
async fn project(region: &Region) -> Projector {
    let mut projector = region.start().projector.take().unwrap();
    while projector.step(&*region.engine).await.unwrap() {}
    projector
}

/// What the store keeps of how far the events are made.
async fn standing(region: &Region) -> Standing {
    let text = region.store.marks(PLACE).await.unwrap().unwrap();
    Standing::of_text(&text).unwrap()
}

/// A region with so many reads of its patient in its log.
async fn read_often(region: &Region, reads: usize) {
    let running = region.start();
    for _ in 0..reads {
        let path = format!("/fhir/Patient/{}", region.patient);
        assert_eq!(running.get("reader", &path).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_place_that_was_lost_after_the_store_had_the_events_doubles_and_loses_none() {
    let region = Region::new(false).await;
    read_often(&region, 5).await;
    project(&region).await;
    assert_eq!(region.versions().await.len(), 5);
    let before = standing(&region).await;
    read_often(&region, 4).await;
    project(&region).await;
    let events = region.versions().await;
    assert_eq!((events.len(), region.accesses().await), (9, 9));
    // As if the node had ended between the two; from the start; and over the log of another time.
    let at = |at, proof| Standing {
        at,
        proof,
        ..before.clone()
    };
    let another = Some(digest(b"another row"));
    for place in [
        before.clone(),
        at(0, None),
        at(3, another),
        at(900, another),
    ] {
        let text = place.to_text();
        region.store.keep_marks(PLACE, text.clone()).await.unwrap();
        project(&region).await;
        assert_eq!(region.versions().await, events, "{text}");
        // By whichever node: what ids are derived with is the store's.
        assert_eq!(standing(&region).await.secret, before.secret);
    }
    read_often(&region, 1).await;
    project(&region).await;
    assert_eq!(region.versions().await.len(), 10);
}

#[tokio::test]
async fn a_place_of_another_version_makes_no_events_anew() {
    let region = Region::new(false).await;
    read_often(&region, 2).await;
    project(&region).await;
    region.store.keep_marks(PLACE, "3 00".into()).await.unwrap();
    let mut projector = region.start().projector.take().unwrap();
    let done = projector.step(&*region.engine).await;
    assert!(matches!(done, Err(Unmade::Standing)));
    assert_eq!(region.versions().await.len(), 2);
}

#[tokio::test]
async fn a_store_that_is_put_back_below_a_running_node_gets_its_events_again() {
    let region = Region::new(false).await;
    read_often(&region, 2).await;
    let mut projector = project(&region).await;
    let before = standing(&region).await;
    read_often(&region, 3).await;
    projector.step(&*region.engine).await.unwrap();
    let events = region.versions().await;
    assert_eq!(events.len(), 5);
    let log = region.ledger.leaves(before.at, 3).await.unwrap();
    let lost = (before.at..).zip(&log.leaves);
    let lost = lost.filter_map(|(at, leaf)| projector.id(before.secret, at, leaf));
    let put_back = OwnEvents {
        dropped: lost.collect(),
        place: before.to_text(),
        ..OwnEvents::default()
    };
    region.store.keep_audit(put_back).await.unwrap();
    assert_eq!(region.versions().await.len(), 2);
    projector.step(&*region.engine).await.unwrap();
    let again = region.versions().await;
    let ids = |events: &[fhir::store::Stored]| -> Vec<String> {
        events.iter().map(|one| one.id.to_string()).collect()
    };
    assert_eq!(ids(&again), ids(&events));
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_not_asked_for_all_of_its_patients_again() {
    let region = Region::new(false).await;
    let digest = federation::audit::about(&format!("Patient/{}", region.patient));
    let full = StoreError::new(Kind::Unavailable, "keep audit");
    for (error, is_known) in [(Unmade::Store(full), true), (Unmade::Standing, false)] {
        read_often(&region, 1).await;
        let mut projector = project(&region).await;
        projector.failed(&error);
        projector.stands().await.unwrap();
        let (whom, _) = projector.patients.whom(&digest);
        let is_named = matches!(whom, audit::Whom::Patient(_));
        assert_eq!(is_named, is_known, "{error}");
    }
}

/// Events have commits of their own: one that came before the comparison would make an older store look as new as the one
/// that was answered for.
#[tokio::test]
async fn no_event_hides_that_the_store_was_put_back() {
    let mut region = Region::new(false).await;
    let older = tempfile::tempdir().unwrap();
    let from = "edge/eu/eu/eu-f1".parse().unwrap();
    let inbox = region.ledger.clone().inbox(region.engine.handlers());
    let mut changed = batch();
    changed.patients[0].gender = "other".into();
    let bytes = changed.encode_to_vec();
    let parcel = Parcel {
        id: vec![2; 16].into(),
        kind: ReadingBatch::KIND.into(),
        count: changed.count(),
        digest: envelope::digest(&bytes),
        body: bytes.into(),
        seq: 1,
        priority: 1,
        ..Parcel::default()
    };
    let parcels = Intact::all([parcel]).unwrap();
    inbox.accept(&from, parcels).await.unwrap();
    let answered_for = region.store.head().await.unwrap();
    read_often(&region, 20).await;
    // PostgreSQL is put back, or comes up empty; the ledger is not.
    let mut put_back = (*region.engine).clone();
    put_back.store = intake(&older).store;
    region.store = put_back.store.clone();
    region.engine = Arc::new(put_back);
    assert!(region.store.head().await.unwrap() < answered_for);
    let mut projector = region.start().projector.take().unwrap();
    let refused = projector.step(&*region.engine).await;
    let Err(Unmade::Log(refused)) = refused else {
        panic!("events were made over a store that was put back")
    };
    assert_eq!(refused.op, "compare the store with the ledger");
    assert_eq!(region.versions().await.len(), 0);
    let log = region.ledger.leaves(0, MAX_ROWS).await.unwrap();
    let entries = log.leaves.iter().map(|leaf| Entry::decode(leaf).unwrap());
    let put_back = entries.filter(|entry| entry.decision() == Decision::PutBack);
    assert_eq!(put_back.count(), 1);
    // It is said, and written down: then they are made.
    while projector.step(&*region.engine).await.unwrap() {}
    assert_eq!(region.versions().await.len(), 20);
}

#[tokio::test]
async fn what_is_passed_over_leaves_no_events_behind() {
    let region = Region::new(false).await;
    let few = || {
        let mut projector = region.start().projector.take().unwrap();
        projector.max_kept = 10;
        projector
    };
    read_often(&region, 8).await;
    while few().step(&*region.engine).await.unwrap() {}
    assert_eq!(region.versions().await.len(), 8);
    // Of so many rows that none of the former is kept, and not all of these are made.
    read_often(&region, 30).await;
    let mut projector = few();
    while projector.step(&*region.engine).await.unwrap() {}
    assert_eq!(region.versions().await.len(), 10);
    let stands = standing(&region).await;
    assert_eq!(stands.at - stands.first, 10);
}

#[tokio::test]
async fn events_are_kept_of_so_many_rows_and_no_more() {
    let mut region = Region::new(false).await;
    let begun = region.ledger.leaves(0, 0).await.unwrap().size;
    let mut projector = region.start().projector.take().unwrap();
    projector.max_kept = 10;
    for round in 1..6_u64 {
        read_often(&region, 4).await;
        projector.step(&*region.engine).await.unwrap();
        let at = projector.stands.as_ref().unwrap().now.at;
        assert_eq!(at, begun + 4 * round);
        let kept = usize::try_from((4 * round).min(10)).unwrap();
        assert_eq!(region.versions().await.len(), kept);
    }
    assert_eq!(region.accesses().await, 20);
    // A store that begins now is given no more either.
    let other = tempfile::tempdir().unwrap();
    region.store = intake(&other).store;
    let mut again = region.start().projector.take().unwrap();
    again.max_kept = 10;
    again.step(&*region.engine).await.unwrap();
    assert_eq!(region.versions().await.len(), 10);
}

#[tokio::test]
async fn who_asks_before_events_are_made_is_told_of_how_many_rows_they_are_not() {
    let region = Region::new(false).await;
    let mut running = region.start();
    running.audited.patience = Duration::from_millis(10);
    let size = region.ledger.leaves(0, 0).await.unwrap().size;
    let behind = Behind { rows: size };
    assert_eq!(running.audited.caught_up().await, Err(behind));
    // Who asks soon after is told at once: were it to wait, the events would be made.
    let asked = running.audited.progress.asked.clone();
    asked.notified().await;
    running.audited.patience = PATIENCE;
    let projector = running.projector.take().unwrap();
    let making = async {
        asked.notified().await;
        tokio::spawn(projector.run(region.engine.clone(), running.stop.clone()));
    };
    let (told, ()) = tokio::join!(running.audited.caught_up(), making);
    assert_eq!(told, Err(behind));
    let mut at = running.audited.progress.at.subscribe();
    drop(at.wait_for(|at| *at >= size).await.unwrap());
    // From then on it is waited for them as before.
    assert_eq!(
        running.get("reader", "/fhir/Patient").await.0,
        StatusCode::OK
    );
    assert_eq!(running.audited.caught_up().await, Ok(()));
}

#[tokio::test]
async fn many_rows_are_taken_in_batches_and_a_patient_who_is_not_known_is_a_digest() {
    let region = Region::new(false).await;
    let of = |about: &str| {
        let asked = federation::audit::Asked {
            interaction: "search-type",
            kind: "Observation?patient",
            about: Some(about),
            request: None,
        };
        Entry::of_read(
            NOW,
            Decision::DataRead,
            "reader",
            region.ledger.place(),
            &asked,
            1,
        )
    };
    let known = format!("Patient/{}", region.patient);
    let mut rows: Vec<Entry> = (0..MAX_EVENTS).map(|_| of(&known)).collect();
    rows.push(of("Patient/nobody"));
    region.ledger.write_down(rows).await.unwrap();
    let mut projector = region.start().projector.take().unwrap();
    assert!(projector.step(&*region.engine).await.unwrap());
    assert_eq!(region.versions().await.len(), MAX_EVENTS);
    assert!(!projector.step(&*region.engine).await.unwrap());
    let events = region.versions().await;
    assert_eq!(events.len(), MAX_EVENTS + 1);
    let is_of = |event: &&fhir::store::Stored| event.json.contains(&known);
    assert_eq!(events.iter().filter(is_of).count(), MAX_EVENTS);
    let unknown = events.iter().find(|event| !is_of(event)).unwrap();
    let digest = federation::audit::about("Patient/nobody");
    assert!(unknown.json.contains(&digest) && unknown.source.is_none());
}
