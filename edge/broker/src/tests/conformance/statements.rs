//! The normative statements of both standards (3.1.1 §7 and appendix B, 5.0 appendix B), and why some have no case.

/// A duty of the client.
const CLIENT: &str = "a duty of the client";
/// Topic aliases: CONNACK announces Topic Alias Maximum 0, and none is sent.
const ALIAS: &str = "topic aliases are not offered";
/// Subscription identifiers: CONNACK announces 0.
const IDENTIFIER: &str = "subscription identifiers are not offered";
/// Shared subscriptions: CONNACK announces 0.
const SHARED: &str = "shared subscriptions are not offered";
/// Enhanced authentication: a method is refused (0x8C).
const AUTH: &str = "enhanced authentication is not offered";
/// Client ids: the certificate names the device, and the client id must be that name.
const ASSIGNED: &str = "client ids are those of the certificates; none is assigned";
/// QoS 0 to 2 and retained messages are offered without limits.
const LIMITED: &str = "concerns a server with a maximum QoS or without retained messages";
/// Reason strings, user properties, response information, server keep alive are not sent.
const UNSENT: &str = "a property that this server never sends";
const WEBSOCKET: &str = "WebSocket is not offered";
const TRANSPORT: &str = "TLS over TCP";
const CLAUSE: &str = "what conformance is, not what a packet does";
const TIMED: &str =
    "admitting::a_silent_connection_is_closed_after_one_and_a_half_times_its_keep_alive";
const EXPIRES: &str = "lasting::a_session_ends_with_its_expiry_or_at_once_without_one";
const STORE: &str =
    "durability::a_full_or_absent_store_acknowledges_nothing_and_the_client_can_send_again";
const WINDOW: &str =
    "defects::defect_9_messages_in_flight_are_bounded_by_the_broker_and_by_the_client";
const LAPSED: &str =
    "outbound::what_lapses_before_it_is_sent_is_dropped_and_what_was_sent_is_completed";

/// Statements by section: how many the section numbers, beginning at 1.
type Section = (&'static str, &'static [u8]);
/// Statements without a case, and why.
type Without = (&'static str, &'static str);

const V4: &[Section] = &[
    ("1.5.3", &[1, 2, 3]),
    ("2.2.2", &[1, 2]),
    ("2.3.1", &[1, 2, 3, 4, 5, 6, 7]),
    ("3.1.0", &[1, 2]),
    (
        "3.1.2",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        ],
    ),
    ("3.1.3", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ("3.1.4", &[1, 2, 3, 4, 5]),
    ("3.2.0", &[1]),
    ("3.2.2", &[1, 2, 3, 4, 5, 6]),
    ("3.3.1", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("3.3.2", &[1, 2, 3]),
    ("3.3.4", &[1]),
    ("3.3.5", &[1, 2]),
    ("3.6.1", &[1]),
    ("3.8.1", &[1]),
    ("3.8.3", &[1, 2, 3, 4]),
    ("3.8.4", &[1, 2, 3, 4, 5, 6]),
    ("3.9.3", &[1, 2]),
    ("3.10.1", &[1]),
    ("3.10.3", &[1, 2]),
    ("3.10.4", &[1, 2, 3, 4, 5, 6]),
    ("3.12.4", &[1]),
    ("3.14.1", &[1]),
    ("3.14.4", &[1, 2, 3]),
    ("4.1.0", &[1, 2]),
    ("4.2.0", &[1]),
    ("4.3.1", &[1]),
    ("4.3.2", &[1, 2]),
    ("4.3.3", &[1, 2]),
    ("4.4.0", &[1]),
    ("4.5.0", &[1, 2]),
    ("4.6.0", &[1, 2, 3, 4, 5, 6]),
    ("4.7.1", &[1, 2, 3]),
    ("4.7.2", &[1]),
    ("4.7.3", &[1, 2, 3, 4]),
    ("4.8.0", &[1, 2]),
    ("6.0.0", &[1, 2, 3, 4]),
    ("7.0.0", &[1, 2]),
    ("7.1.1", &[1]),
    ("7.1.2", &[1]),
];

const V4_WITHOUT: &[Without] = &[
    ("2.3.1-2", CLIENT),
    ("2.3.1-3", CLIENT),
    ("3.1.2-23", CLIENT),
    ("3.1.2-24", TIMED),
    ("3.1.3-5", ASSIGNED),
    ("3.1.3-6", ASSIGNED),
    ("3.14.4-1", CLIENT),
    ("3.14.4-2", CLIENT),
    ("4.1.0-2", EXPIRES),
    ("4.2.0-1", TRANSPORT),
    ("4.5.0-2", CLIENT),
    ("4.8.0-2", STORE),
    ("6.0.0-1", WEBSOCKET),
    ("6.0.0-2", WEBSOCKET),
    ("6.0.0-3", WEBSOCKET),
    ("6.0.0-4", WEBSOCKET),
    ("7.0.0-1", CLAUSE),
    ("7.0.0-2", CLAUSE),
    ("7.1.1-1", CLAUSE),
    ("7.1.2-1", CLAUSE),
];

const V5: &[Section] = &[
    ("1.5.4", &[1, 2, 3]),
    ("1.5.5", &[1]),
    ("1.5.7", &[1]),
    ("2.1.3", &[1]),
    ("2.2.1", &[2, 3, 4, 5, 6]),
    ("2.2.2", &[1]),
    ("3.1.0", &[1, 2]),
    (
        "3.1.2",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
            25, 26, 27, 28, 29, 30,
        ],
    ),
    ("3.1.3", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]),
    ("3.1.4", &[1, 2, 3, 4, 5, 6]),
    ("3.2.0", &[1, 2]),
    (
        "3.2.2",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
        ],
    ),
    ("3.3.1", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
    (
        "3.3.2",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ],
    ),
    ("3.3.4", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("3.4.2", &[1, 2, 3]),
    ("3.5.2", &[1, 2, 3]),
    ("3.6.1", &[1]),
    ("3.6.2", &[1, 2, 3]),
    ("3.7.2", &[1, 2, 3]),
    ("3.8.1", &[1]),
    ("3.8.3", &[1, 2, 3, 4, 5]),
    ("3.8.4", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ("3.9.2", &[1, 2]),
    ("3.9.3", &[1, 2]),
    ("3.10.1", &[1]),
    ("3.10.3", &[1, 2]),
    ("3.10.4", &[1, 2, 3, 4, 5, 6]),
    ("3.11.2", &[1, 2]),
    ("3.11.3", &[1, 2]),
    ("3.12.4", &[1]),
    ("3.14.0", &[1]),
    ("3.14.1", &[1]),
    ("3.14.2", &[1, 2, 3, 4]),
    ("3.14.4", &[1, 2, 3]),
    ("3.15.1", &[1]),
    ("3.15.2", &[1, 2, 3]),
    ("4.1.0", &[1, 2]),
    ("4.2.0", &[1]),
    ("4.3.1", &[1]),
    ("4.3.2", &[1, 2, 3, 4, 5]),
    ("4.3.3", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
    ("4.4.0", &[1, 2]),
    ("4.5.0", &[1, 2]),
    ("4.6.0", &[1, 2, 3, 4, 5, 6]),
    ("4.7.0", &[1]),
    ("4.7.1", &[1, 2]),
    ("4.7.2", &[1]),
    ("4.7.3", &[1, 2, 3, 4]),
    ("4.8.2", &[1, 2, 3, 4, 5, 6]),
    ("4.9.0", &[1, 2, 3]),
    ("4.12.0", &[1, 2, 3, 4, 5, 6, 7]),
    ("4.12.1", &[1, 2]),
    ("4.13.1", &[1]),
    ("4.13.2", &[1]),
    ("6.0.0", &[1, 2, 3, 4]),
];

const V5_WITHOUT: &[Without] = &[
    ("2.2.1-3", CLIENT),
    ("3.1.2-20", CLIENT),
    ("3.1.2-21", CLIENT),
    ("3.1.2-22", TIMED),
    ("3.1.2-26", ALIAS),
    ("3.1.2-30", CLIENT),
    ("3.1.3-5", ASSIGNED),
    ("3.1.3-6", ASSIGNED),
    ("3.1.3-7", ASSIGNED),
    ("3.2.2-4", CLIENT),
    ("3.2.2-5", CLIENT),
    ("3.2.2-9", LIMITED),
    ("3.2.2-10", LIMITED),
    ("3.2.2-11", CLIENT),
    ("3.2.2-12", LIMITED),
    ("3.2.2-13", LIMITED),
    ("3.2.2-14", CLIENT),
    ("3.2.2-15", CLIENT),
    ("3.2.2-16", ASSIGNED),
    ("3.2.2-17", CLIENT),
    ("3.2.2-18", CLIENT),
    ("3.2.2-19", UNSENT),
    ("3.2.2-20", UNSENT),
    ("3.2.2-21", CLIENT),
    ("3.2.2-22", TIMED),
    ("3.3.2-7", ALIAS),
    ("3.3.2-9", CLIENT),
    ("3.3.2-10", CLIENT),
    ("3.3.2-11", ALIAS),
    ("3.3.2-12", ALIAS),
    ("3.3.4-3", IDENTIFIER),
    ("3.3.4-4", IDENTIFIER),
    ("3.3.4-5", IDENTIFIER),
    ("3.3.4-7", CLIENT),
    ("3.3.4-8", CLIENT),
    ("3.4.2-2", UNSENT),
    ("3.4.2-3", UNSENT),
    ("3.5.2-2", UNSENT),
    ("3.5.2-3", UNSENT),
    ("3.6.2-2", UNSENT),
    ("3.6.2-3", UNSENT),
    ("3.7.2-2", UNSENT),
    ("3.7.2-3", UNSENT),
    ("3.9.2-1", UNSENT),
    ("3.9.2-2", UNSENT),
    ("3.11.2-1", UNSENT),
    ("3.11.2-2", UNSENT),
    ("3.14.2-3", UNSENT),
    ("3.14.2-4", UNSENT),
    ("3.15.2-1", AUTH),
    ("3.15.2-2", AUTH),
    ("3.15.2-3", AUTH),
    ("4.1.0-2", EXPIRES),
    ("4.2.0-1", TRANSPORT),
    ("4.3.3-7", LAPSED),
    ("4.3.3-13", LAPSED),
    ("4.5.0-2", CLIENT),
    ("4.8.2-1", SHARED),
    ("4.8.2-2", SHARED),
    ("4.8.2-3", SHARED),
    ("4.8.2-4", SHARED),
    ("4.8.2-5", SHARED),
    ("4.8.2-6", SHARED),
    ("4.9.0-1", WINDOW),
    ("4.9.0-2", WINDOW),
    ("4.12.0-2", AUTH),
    ("4.12.0-3", CLIENT),
    ("4.12.0-4", AUTH),
    ("4.12.0-5", AUTH),
    ("4.12.1-1", AUTH),
    ("4.12.1-2", AUTH),
    ("6.0.0-1", WEBSOCKET),
    ("6.0.0-2", WEBSOCKET),
    ("6.0.0-3", WEBSOCKET),
    ("6.0.0-4", WEBSOCKET),
];

/// Every statement, written `4:…` or `5:…`, and why it has no case.
pub(super) fn all() -> Vec<(String, Option<&'static str>)> {
    let version = |level: u8, sections: &[Section], without: &[Without]| -> Vec<_> {
        let ids = sections.iter().flat_map(|(section, numbers)| {
            numbers
                .iter()
                .map(move |number| format!("{section}-{number}"))
        });
        let mut listed = 0;
        let all = ids
            .map(|id| {
                let why = without
                    .iter()
                    .find(|(of, _)| *of == id)
                    .map(|(_, why)| *why);
                listed += usize::from(why.is_some());
                (format!("{level}:{id}"), why)
            })
            .collect();
        assert_eq!(listed, without.len(), "an exception to no statement");
        all
    };
    [version(4, V4, V4_WITHOUT), version(5, V5, V5_WITHOUT)].concat()
}
