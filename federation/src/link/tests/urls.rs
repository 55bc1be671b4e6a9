//! A region of more than one node: a facility tries their addresses in turn.
use super::*;
use std::net::TcpListener as Socket;

/// Where nobody listens.
fn nobody() -> String {
    let address = Socket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("https://{address}")
}

fn to(region: &Region) -> String {
    format!("https://{}", region.address)
}

#[tokio::test]
async fn the_node_that_answers_is_found_whichever_it_is_and_when_it_changes() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let (first, second) = (region(&bed, &us).await, region(&bed, &us).await);
    let outbox = Arc::new(MemOutbox::new(EDGE, US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        urls: vec![nobody(), to(&first), nobody(), to(&second)],
        ..parts(&bed, &f1, first.address, US)
    });
    let uplink = uplink.unwrap();
    let mut state = uplink.state();
    let stop = CancellationToken::new();
    let running = tokio::spawn(uplink.run(stop.clone()));
    let up = |state: &LinkState| matches!(state, LinkState::Up { .. });
    state.wait_for(up).await.unwrap();
    assert_eq!(second.inbox.applied(Priority::Live), [0_u64; 0]);
    first.stop.cancel();
    first.served.await.unwrap().unwrap();
    for _ in 0..5 {
        outbox.add(Priority::Live, 100);
    }
    eventually("an empty outbox", || outbox.waiting() == 0).await;
    assert_eq!(second.inbox.applied(Priority::Live), [1, 2, 3, 4, 5]);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_link_without_an_address_or_with_one_that_is_none_is_refused() {
    let bed = Testbed::new();
    let (_, f1) = both(&bed);
    let anywhere = "127.0.0.1:1".parse().unwrap();
    for urls in [Vec::new(), vec![nobody(), "http://a".to_owned()]] {
        let parts = UplinkParts {
            urls,
            ..parts(&bed, &f1, anywhere, US)
        };
        assert!(matches!(Uplink::new(parts), Err(LinkError::Url(_))));
    }
}
