//! What every catalog must do, whatever the engine.
//!
//! A case is a private function: one left out of [`CASES`] is dead code, and dead code fails the build.
use super::{
    Catalog, Device, DeviceFilter, Entry, Facility, Facts, Home, Kind, MAX_PAGE, MAX_RECORDS,
    PlaceFilter, Put, Records, StoreError,
};
use async_trait::async_trait;
use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use types::{CatalogId, DeviceKind, DeviceStatus, Jurisdiction, Timestamp};

/// A fresh, empty store of one case.
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens the store; again, the same one.
    async fn open(&self) -> Arc<dyn Catalog>;
}

/// A case that runs.
pub type Check<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One promise of the port.
pub struct Case {
    /// The promise, as a sentence in snake case.
    pub name: &'static str,
    /// Checks it on a fresh, empty store; panics where it is broken.
    pub run: for<'a> fn(&'a dyn Store) -> Check<'a>,
}

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        &[$(Case { name: stringify!($case), run: |store| Box::pin($case(store)) }),*]
    };
}

/// The promises of a [`Catalog`].
pub const CASES: &[Case] = cases![
    an_empty_catalog_has_nothing,
    what_is_put_is_found_by_id_and_in_the_listing,
    the_same_call_twice_is_one_step,
    the_later_record_stays_in_whatever_order_they_come,
    of_two_records_of_one_time_the_greater_encoding_stays,
    a_record_replaces_all_facts_at_once,
    an_id_stays_with_the_facility_that_put_it_first,
    a_put_with_an_id_of_another_facility_stores_nothing_of_it,
    every_filter_lets_the_right_devices_pass,
    pages_of_any_size_show_each_device_once_in_order,
    pages_of_any_size_show_each_facility_once_in_order,
    a_facility_is_listed_with_its_latest_change,
    an_empty_put_makes_no_facility_known,
    the_largest_put_is_taken_and_a_larger_one_refused,
    limits_outside_the_bounds_are_refused,
    times_outside_the_bounds_are_refused,
    two_writers_at_once_leave_the_later_records,
    what_was_acknowledged_is_there_after_reopening,
    a_put_that_failed_half_way_is_completed_by_doing_it_again,
];

/// How long a write may stay hidden: the engines here show it at once or at the next read.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
/// How often a put is done again before the case gives up.
const TRIES: usize = 5;

fn home(jurisdiction: Jurisdiction, region: &str, facility: &str) -> Home {
    Home {
        jurisdiction,
        region: region.parse().unwrap(),
        facility: facility.parse().unwrap(),
    }
}

fn berlin() -> Home {
    home(Jurisdiction::Eu, "eu", "eu-f1")
}

fn id(number: u32) -> CatalogId {
    // Scattered, so that the order of ids is not the order of their numbers.
    let mut bytes = [0xa5; 16];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    CatalogId::from_bytes(bytes)
}

fn entry(number: u32, updated: i64) -> Entry {
    let kinds = DeviceKind::ALL;
    let label = |text: String| Some(text.parse().unwrap());
    Entry {
        id: id(number),
        facts: Facts {
            status: DeviceStatus::ALL[number as usize % 3],
            kind: kinds[number as usize % kinds.len()],
            model: label(format!("model-{number}")),
            firmware: label(format!("1.{updated}")),
        },
        updated: Timestamp(updated),
    }
}

fn records(home: &Home, devices: impl IntoIterator<Item = Entry>) -> Records {
    Records {
        home: home.clone(),
        devices: devices.into_iter().collect(),
    }
}

/// Puts, again while the engine says that it is unavailable, as the link does.
async fn try_put(catalog: &dyn Catalog, records: &Records) -> Put {
    let mut tried = 0;
    loop {
        match catalog.put_devices(records).await {
            Ok(put) => return put,
            Err(error) => {
                tried += 1;
                assert_eq!(error.kind, Kind::Unavailable, "{error}: {:?}", error.source);
                assert!(tried < TRIES, "still unavailable");
            }
        }
    }
}

async fn put(catalog: &dyn Catalog, records: &Records) {
    assert_eq!(try_put(catalog, records).await, Put::Stored);
}

/// Reads until `expected` is read: a fresh write may be hidden for a while.
async fn eventually<T, F>(read: impl Fn() -> F, expected: T)
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + VISIBLE_WITHIN;
    loop {
        let found = read().await.unwrap();
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "found {found:?}, expected {expected:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn all_devices(
    catalog: &dyn Catalog,
    filter: &DeviceFilter,
    limit: usize,
) -> Result<Vec<Device>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = catalog.devices(filter, after.as_ref(), limit).await?;
        assert!(page.items.len() <= limit);
        found.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

async fn all_facilities(
    catalog: &dyn Catalog,
    filter: &PlaceFilter,
    limit: usize,
) -> Result<Vec<Facility>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = catalog.facilities(filter, after.as_ref(), limit).await?;
        assert!(page.items.len() <= limit);
        found.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

/// The devices of these records in the order of the listing.
fn listed<'a>(all: impl IntoIterator<Item = &'a Records>) -> Vec<Device> {
    let mut devices: Vec<_> = all
        .into_iter()
        .flat_map(|records| {
            let home = records.home.clone();
            records.devices.iter().map(move |entry| Device {
                home: home.clone(),
                entry: entry.clone(),
            })
        })
        .collect();
    devices.sort_by(|a, b| (&a.home, a.entry.id).cmp(&(&b.home, b.entry.id)));
    devices
}

async fn an_empty_catalog_has_nothing(store: &dyn Store) {
    let catalog = store.open().await;
    assert_eq!(catalog.device(id(1)).await.unwrap(), None);
    let everything = DeviceFilter::default();
    assert_eq!(all_devices(&*catalog, &everything, 10).await.unwrap(), []);
    let everywhere = PlaceFilter::default();
    assert_eq!(
        all_facilities(&*catalog, &everywhere, 10).await.unwrap(),
        []
    );
}

async fn what_is_put_is_found_by_id_and_in_the_listing(store: &dyn Store) {
    let catalog = store.open().await;
    let mut nameless = entry(2, 7);
    nameless.facts.model = None;
    nameless.facts.firmware = None;
    let put_in = records(&berlin(), [entry(1, 7), nameless]);
    put(&*catalog, &put_in).await;
    for device in listed([&put_in]) {
        eventually(|| catalog.device(device.entry.id), Some(device.clone())).await;
    }
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&put_in])).await;
}

async fn the_same_call_twice_is_one_step(store: &dyn Store) {
    let catalog = store.open().await;
    let put_in = records(&berlin(), [entry(1, 7), entry(2, 7)]);
    put(&*catalog, &put_in).await;
    put(&*catalog, &put_in).await;
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&put_in])).await;
}

async fn the_later_record_stays_in_whatever_order_they_come(store: &dyn Store) {
    let catalog = store.open().await;
    let times = [[1, 2, 3], [3, 2, 1], [2, 3, 1], [3, 1, 2]];
    for (number, order) in (1..).zip(times) {
        for updated in order {
            put(&*catalog, &records(&berlin(), [entry(number, updated)])).await;
        }
    }
    let expected = records(&berlin(), (1..=4).map(|number| entry(number, 3)));
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&expected])).await;
    let one = listed([&records(&berlin(), [entry(1, 3)])]).pop();
    eventually(|| catalog.device(id(1)), one).await;
}

async fn of_two_records_of_one_time_the_greater_encoding_stays(store: &dyn Store) {
    let catalog = store.open().await;
    let with = |number, firmware: &str| {
        let mut entry = entry(number, 7);
        entry.facts.firmware = Some(firmware.parse().unwrap());
        entry
    };
    for (number, order) in [(1, ["1.10", "1.9"]), (2, ["1.9", "1.10"])] {
        for firmware in order {
            put(&*catalog, &records(&berlin(), [with(number, firmware)])).await;
        }
    }
    let expected = records(&berlin(), [with(1, "1.9"), with(2, "1.9")]);
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&expected])).await;
}

async fn a_record_replaces_all_facts_at_once(store: &dyn Store) {
    let catalog = store.open().await;
    let (mut first, mut second) = (entry(1, 7), entry(1, 7));
    // Field by field the greater text would be the first one's status and the second one's model.
    (first.facts.status, second.facts.status) = (DeviceStatus::Silent, DeviceStatus::Active);
    (first.facts.model, second.facts.model) =
        (Some("a".parse().unwrap()), Some("b".parse().unwrap()));
    put(&*catalog, &records(&berlin(), [first.clone()])).await;
    put(&*catalog, &records(&berlin(), [second])).await;
    let expected = listed([&records(&berlin(), [first])]).pop();
    eventually(|| catalog.device(id(1)), expected).await;
}

fn boston() -> Home {
    home(Jurisdiction::Us, "us", "us-f1")
}

async fn an_id_stays_with_the_facility_that_put_it_first(store: &dyn Store) {
    let catalog = store.open().await;
    let ours = records(&berlin(), [entry(1, 7)]);
    put(&*catalog, &ours).await;
    // Neither a later nor an earlier record of another facility changes anything, and the owner goes on.
    for updated in [9, 1] {
        let theirs = records(&boston(), [entry(1, updated)]);
        assert_eq!(try_put(&*catalog, &theirs).await, Put::Foreign);
    }
    let newer = records(&berlin(), [entry(1, 8)]);
    put(&*catalog, &newer).await;
    eventually(|| catalog.device(id(1)), listed([&newer]).pop()).await;
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&newer])).await;
}

async fn a_put_with_an_id_of_another_facility_stores_nothing_of_it(store: &dyn Store) {
    let catalog = store.open().await;
    let ours = records(&berlin(), [entry(1, 7)]);
    put(&*catalog, &ours).await;
    let mixed = records(&boston(), [entry(2, 7), entry(1, 7), entry(3, 7)]);
    assert_eq!(try_put(&*catalog, &mixed).await, Put::Foreign);
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&ours])).await;
    let theirs = records(&boston(), [entry(2, 7), entry(3, 7)]);
    put(&*catalog, &theirs).await;
    let expected = listed([&ours, &theirs]);
    eventually(|| all_devices(&*catalog, &filter, 10), expected).await;
}

fn spread() -> Vec<Records> {
    let homes = [
        home(Jurisdiction::Us, "us", "us-f1"),
        home(Jurisdiction::Us, "us", "us-f2"),
        home(Jurisdiction::Eu, "eu", "eu-f1"),
        home(Jurisdiction::Eu, "eu-north", "eu-f1"),
        home(Jurisdiction::Apac, "apac", "apac-f1"),
    ];
    (0..)
        .zip(&homes)
        .map(|(at, home)| records(home, (0..6).map(|n| entry(at * 6 + n, i64::from(n) + 1))))
        .collect()
}

async fn every_filter_lets_the_right_devices_pass(store: &dyn Store) {
    let catalog = store.open().await;
    let all = spread();
    for part in &all {
        put(&*catalog, part).await;
    }
    let place = |jurisdiction, region: Option<&str>, facility: Option<&str>| PlaceFilter {
        jurisdiction,
        region: region.map(|name| name.parse().unwrap()),
        facility: facility.map(|name| name.parse().unwrap()),
    };
    let places = [
        place(None, None, None),
        place(Some(Jurisdiction::Eu), None, None),
        place(Some(Jurisdiction::Eu), Some("eu"), None),
        place(None, Some("us"), None),
        place(None, None, Some("eu-f1")),
        place(Some(Jurisdiction::Us), Some("us"), Some("us-f2")),
        place(Some(Jurisdiction::Us), Some("eu"), None),
    ];
    for place in places {
        for kind in [None, Some(DeviceKind::ColdChain)] {
            for status in [None, Some(DeviceStatus::Retired)] {
                let filter = DeviceFilter {
                    place: place.clone(),
                    kind,
                    status,
                };
                let mut expected = listed(&all);
                expected.retain(|device| {
                    filter.place.passes(&device.home) && filter.passes(&device.entry.facts)
                });
                eventually(|| all_devices(&*catalog, &filter, 4), expected).await;
            }
        }
        let homes = all.iter().map(|part| part.home.clone());
        let expected: BTreeSet<_> = homes.filter(|home| place.passes(home)).collect();
        let found = all_facilities(&*catalog, &place, 2).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|facility| facility.home).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

async fn pages_of_any_size_show_each_device_once_in_order(store: &dyn Store) {
    let catalog = store.open().await;
    let all = spread();
    for part in &all {
        put(&*catalog, part).await;
    }
    let filter = DeviceFilter::default();
    for limit in [1, 2, 5, 6, 7, 29, 30, 31, MAX_PAGE] {
        eventually(|| all_devices(&*catalog, &filter, limit), listed(&all)).await;
    }
}

async fn pages_of_any_size_show_each_facility_once_in_order(store: &dyn Store) {
    let catalog = store.open().await;
    let all = spread();
    for part in &all {
        put(&*catalog, part).await;
    }
    let mut expected: Vec<_> = all
        .iter()
        .map(|part| Facility {
            home: part.home.clone(),
            updated: Timestamp(6),
        })
        .collect();
    expected.sort_by(|a, b| a.home.cmp(&b.home));
    let filter = PlaceFilter::default();
    for limit in [1, 2, 4, 5, 6, MAX_PAGE] {
        let found = || all_facilities(&*catalog, &filter, limit);
        eventually(found, expected.clone()).await;
    }
}

async fn a_facility_is_listed_with_its_latest_change(store: &dyn Store) {
    let catalog = store.open().await;
    for updated in [5, 9, 7] {
        put(&*catalog, &records(&berlin(), [entry(1, updated)])).await;
    }
    let expected = vec![Facility {
        home: berlin(),
        updated: Timestamp(9),
    }];
    let filter = PlaceFilter::default();
    eventually(|| all_facilities(&*catalog, &filter, 10), expected).await;
}

async fn an_empty_put_makes_no_facility_known(store: &dyn Store) {
    let catalog = store.open().await;
    put(&*catalog, &records(&berlin(), [])).await;
    let filter = PlaceFilter::default();
    for _ in 0..2 {
        assert_eq!(all_facilities(&*catalog, &filter, 10).await.unwrap(), []);
    }
}

async fn the_largest_put_is_taken_and_a_larger_one_refused(store: &dyn Store) {
    let catalog = store.open().await;
    let largest = u32::try_from(MAX_RECORDS).unwrap();
    let too_many = records(&berlin(), (0..=largest).map(|number| entry(number, 7)));
    let error = catalog.put_devices(&too_many).await.unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    let most = records(&berlin(), (0..largest).map(|number| entry(number, 7)));
    put(&*catalog, &most).await;
    let filter = DeviceFilter::default();
    eventually(
        || all_devices(&*catalog, &filter, MAX_PAGE),
        listed([&most]),
    )
    .await;
}

async fn limits_outside_the_bounds_are_refused(store: &dyn Store) {
    let catalog = store.open().await;
    for limit in [0, MAX_PAGE + 1, usize::MAX] {
        let devices = catalog.devices(&DeviceFilter::default(), None, limit).await;
        assert_eq!(devices.unwrap_err().kind, Kind::Refused);
        let facilities = catalog
            .facilities(&PlaceFilter::default(), None, limit)
            .await;
        assert_eq!(facilities.unwrap_err().kind, Kind::Refused);
    }
}

async fn times_outside_the_bounds_are_refused(store: &dyn Store) {
    let catalog = store.open().await;
    for updated in [-1, i64::MIN, Entry::LATEST.0 + 1, i64::MAX] {
        let put_in = records(&berlin(), [entry(1, 7), entry(2, updated)]);
        let error = catalog.put_devices(&put_in).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused, "{updated}");
    }
    let put_in = records(&berlin(), [entry(3, 0), entry(4, Entry::LATEST.0)]);
    put(&*catalog, &put_in).await;
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&put_in])).await;
}

async fn two_writers_at_once_leave_the_later_records(store: &dyn Store) {
    const ROUNDS: i64 = 20;
    let catalog = store.open().await;
    let write = |rounds: Vec<i64>| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            for updated in rounds {
                let devices = (0..8).map(|number| entry(number, updated));
                put(&*catalog, &records(&berlin(), devices)).await;
            }
        })
    };
    let up = write((0..=ROUNDS).collect());
    let down = write((0..=ROUNDS).rev().collect());
    up.await.unwrap();
    down.await.unwrap();
    let expected = records(&berlin(), (0..8).map(|number| entry(number, ROUNDS)));
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 10), listed([&expected])).await;
}

async fn what_was_acknowledged_is_there_after_reopening(store: &dyn Store) {
    let put_in = records(&berlin(), [entry(1, 7), entry(2, 8)]);
    let catalog = store.open().await;
    put(&*catalog, &put_in).await;
    drop(catalog);
    let catalog = store.open().await;
    let filter = DeviceFilter::default();
    let found = all_devices(&*catalog, &filter, 10).await.unwrap();
    assert_eq!(found, listed([&put_in]));
}

async fn a_put_that_failed_half_way_is_completed_by_doing_it_again(store: &dyn Store) {
    let catalog = store.open().await;
    let whole = records(&berlin(), (0..10).map(|number| entry(number, 7)));
    let half = records(&berlin(), whole.devices[..5].to_vec());
    put(&*catalog, &half).await;
    put(&*catalog, &whole).await;
    let filter = DeviceFilter::default();
    eventually(|| all_devices(&*catalog, &filter, 3), listed([&whole])).await;
}
