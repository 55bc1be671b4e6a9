//! A parcel that is traced on its way over a link: a span for each hop, each below the one before it.
use super::*;
use node::trace::{Attribute, Context, Name, Span, install};
use parking_lot::Mutex;

/// The spans of a trace that have ended, of this process.
pub(crate) fn spans_of(trace: node::trace::TraceId) -> Vec<Span> {
    static SEEN: Mutex<Vec<Span>> = Mutex::new(Vec::new());
    let mut seen = SEEN.lock();
    seen.extend(install(0.0).take(usize::MAX));
    let of = seen.iter().filter(|span| span.context.trace == trace);
    of.cloned().collect()
}

fn find(spans: &[Span], name: Name) -> &Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name:?} in {spans:#?}");
    found[0]
}

#[tokio::test]
async fn each_hop_of_a_traced_parcel_is_a_span_below_the_one_before_it() {
    let stored = Context::new(0x7ace_0001, 0x5);
    install(0.0);
    let bed = Testbed::new();
    let (us, holder) = both(&bed);
    let region = region(&bed, &us).await;
    let mut edge = edge(&bed, &holder, region.address, US);
    edge.up().await;
    // One that is traced among others that are not, and one that says rubbish: it is taken all the same.
    for traceparent in [String::new(), stored.to_string(), "rubbish".to_owned()] {
        edge.outbox.add_bent(Priority::Live, |parcel| {
            parcel.body = vec![7; 100].into();
            fakes::seal(parcel);
            parcel.traceparent.clone_from(&traceparent);
        });
    }
    edge.drained().await;
    let spans = spans_of(stored.trace);
    let sent = find(&spans, Name::LinkSend);
    let received = find(&spans, Name::LinkReceive);
    let gate = find(&spans, Name::Gate);
    assert_eq!(spans.len(), 3, "{spans:#?}");
    assert_eq!(sent.parent, Some(stored.span));
    assert_eq!(received.parent, Some(sent.context.span));
    assert_eq!(gate.parent, Some(received.context.span));
    let outcome = Attribute::Outcome("accepted");
    assert_eq!(sent.says, [Attribute::Priority("live"), outcome]);
    assert!(received.from_ns <= gate.from_ns && gate.until_ns <= received.until_ns);
    edge.stop.cancel();
    region.stop.cancel();
}
