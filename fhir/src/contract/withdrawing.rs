//! Promises of readings that are withdrawn: entered in error once and for good, in whichever order things come.
use super::{Engine, fixture};
use crate::store::{Applied, Delivery, NewResource, ResourceStore, ResourceType};
use types::Timestamp;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

async fn apply(store: &dyn ResourceStore, parcel: u32, resources: Vec<NewResource>) -> Applied {
    let delivery = Delivery {
        parcel: fixture::parcel(parcel),
        source: fixture::source(1),
        resources,
    };
    let mut applied = store.apply(vec![delivery], NOW).await.unwrap();
    applied.remove(0)
}

fn written(written: u32) -> Applied {
    Applied {
        written,
        ..Applied::default()
    }
}

/// The versions of a reading that are there, by whether each is as it was withdrawn.
async fn versions(store: &dyn ResourceStore, number: u32) -> Vec<bool> {
    let id = fixture::observation(number).id().clone();
    let mut versions = Vec::new();
    for version in 1..4 {
        let stored = store.vread(ResourceType::Observation, &id, version);
        versions.extend(
            stored
                .await
                .unwrap()
                .map(|one| one.json == fixture::withdrawn(number).json()),
        );
    }
    versions
}

pub async fn a_withdrawn_reading_is_a_new_version_and_the_last(engine: &dyn Engine) {
    let store = engine.open().await;
    let (reading, gone) = (fixture::observation(1), fixture::withdrawn(1));
    assert_eq!(apply(&*store, 1, vec![reading.clone()]).await, written(1));
    assert_eq!(apply(&*store, 2, vec![gone.clone()]).await, written(1));
    // Again, and the reading itself again.
    assert_eq!(apply(&*store, 3, vec![gone]).await, written(0));
    assert_eq!(apply(&*store, 4, vec![reading]).await, written(0));
    assert_eq!(versions(&*store, 1).await, [false, true]);
    assert_eq!(
        store.counts().await.unwrap().of(ResourceType::Observation),
        1
    );
}

pub async fn a_withdrawal_that_overtakes_its_reading_holds(engine: &dyn Engine) {
    let store = engine.open().await;
    let (reading, gone) = (fixture::observation(1), fixture::withdrawn(1));
    assert_eq!(apply(&*store, 1, vec![gone]).await, written(1));
    assert_eq!(apply(&*store, 2, vec![reading]).await, written(0));
    assert_eq!(versions(&*store, 1).await, [true]);
    // Both in one call, in either order.
    let (reading, gone) = (fixture::observation(2), fixture::withdrawn(2));
    assert_eq!(apply(&*store, 3, vec![reading, gone]).await, written(2));
    assert_eq!(versions(&*store, 2).await, [false, true]);
    let (reading, gone) = (fixture::observation(3), fixture::withdrawn(3));
    assert_eq!(apply(&*store, 4, vec![gone, reading]).await, written(1));
    assert_eq!(versions(&*store, 3).await, [true]);
}
