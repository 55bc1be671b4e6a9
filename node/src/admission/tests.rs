//! Whoever fills the places of a listener displaces himself and nobody who has proved who they are.
use super::*;

const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

const LIMITS: Limits = Limits {
    handshakes: 4,
    unknown: 4,
    health: 2,
    known: 4,
    per_identity: 2,
    unread_bytes: 1 << 20,
};

fn admission() -> Admission {
    Admission::new("test", &LIMITS)
}

#[test]
fn an_address_that_holds_its_share_displaces_its_own_oldest() {
    let admission = admission();
    let honest = admission.enter(OTHER);
    let idle: Vec<_> = (0..10).map(|_| admission.enter(STRANGER)).collect();
    assert!(!honest.is_displaced());
    let left = idle.iter().filter(|slot| !slot.is_displaced()).count();
    assert_eq!(left, 3);
    assert!(!idle[9].is_displaced() && idle[0].is_displaced());
}

#[test]
fn strangers_in_one_stage_do_not_reach_the_next() {
    let admission = admission();
    let (unknown, known) = (admission.enter(STRANGER), admission.enter(STRANGER));
    unknown.shaken();
    known.shaken();
    known.known_as("reader");
    let flood: Vec<_> = (0..100).map(|_| admission.enter(STRANGER)).collect();
    assert!(!unknown.is_displaced() && !known.is_displaced());
    for slot in &flood {
        slot.shaken();
    }
    assert!(unknown.is_displaced());
    assert_eq!(admission.held()[1], share(LIMITS.unknown));
    assert!(!known.is_displaced());
    assert_eq!(admission.held()[3], 1);
}

#[test]
fn a_displaced_connection_gets_no_place_by_going_on() {
    let admission = admission();
    let slots: Vec<_> = (0..4).map(|_| admission.enter(STRANGER)).collect();
    assert!(slots[0].is_displaced());
    slots[0].shaken();
    slots[0].known_as("reader");
    assert_eq!(admission.held(), [3, 0, 0, 0]);
}

#[test]
fn the_newest_of_an_identity_wins_and_no_other_pays_for_it() {
    let admission = admission();
    let known = |name| {
        let slot = admission.enter(STRANGER);
        slot.known_as(name);
        slot
    };
    let other = known("other");
    let own: Vec<_> = (0..5).map(|_| known("own")).collect();
    let left: Vec<_> = own.iter().map(|slot| !slot.is_displaced()).collect();
    assert_eq!(left, [false, false, false, true, true]);
    own[3].known_as("own");
    let _newest = known("own");
    assert!(
        own[4].is_displaced() && !own[3].is_displaced(),
        "the least recent goes"
    );
    assert!(!other.is_displaced());
}

#[test]
fn a_probe_has_a_place_of_its_own_while_it_is_answered() {
    let admission = admission();
    let probe = admission.enter(STRANGER);
    probe.shaken();
    probe.asks_health();
    let flood: Vec<_> = (0..100).map(|_| admission.enter(STRANGER)).collect();
    flood.iter().for_each(Slot::shaken);
    assert!(!probe.is_displaced());
}

#[test]
fn answers_that_an_identity_does_not_read_are_bounded_and_cost_its_oldest() {
    let admission = Admission::new(
        "test",
        &Limits {
            per_identity: 4,
            ..LIMITS
        },
    );
    let slots: Vec<_> = (0..4).map(|_| admission.enter(STRANGER)).collect();
    for slot in &slots[..3] {
        slot.known_as("own");
        slot.holds_unread(400 << 10);
    }
    assert!(slots[0].is_displaced() && !slots[1].is_displaced());
    slots[1].holds_unread(0);
    slots[3].known_as("own");
    slots[3].holds_unread(500 << 10);
    assert!(!slots[1].is_displaced() && !slots[2].is_displaced());
}

#[test]
fn addresses_of_one_network_of_ipv6_are_one_party_and_a_mapped_address_is_that_of_ipv4() {
    for (address, expected) in [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
    ] {
        let Network(found) = Network::of(address.parse().unwrap());
        assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{address}");
    }
}

#[test]
fn want_of_descriptors_costs_who_has_proved_nothing() {
    let admission = admission();
    let (known, unknown, new) = (
        admission.enter(OTHER),
        admission.enter(STRANGER),
        admission.enter(STRANGER),
    );
    known.known_as("reader");
    unknown.shaken();
    admission.make_room();
    assert!(unknown.is_displaced() && !new.is_displaced());
    admission.make_room();
    admission.make_room();
    assert!(new.is_displaced() && !known.is_displaced());
}
