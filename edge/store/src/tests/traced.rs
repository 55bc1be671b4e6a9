//! A sample that is traced: its commit is a span, its parcel names it, and the wait in the outbox is one below it.
use super::*;
use node::trace::{self, Context, Name, Span};
use parking_lot::Mutex;

/// The spans of a trace that have ended, of this process.
fn spans_of(trace: trace::TraceId) -> Vec<Span> {
    static SEEN: Mutex<Vec<Span>> = Mutex::new(Vec::new());
    let mut seen = SEEN.lock();
    seen.extend(trace::install(0.0).take(usize::MAX));
    let of = seen.iter().filter(|span| span.context.trace == trace);
    of.cloned().collect()
}

fn find(spans: &[Span], name: Name) -> Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name:?} in {spans:#?}");
    found[0].clone()
}

#[tokio::test]
async fn a_traced_sample_is_followed_into_its_parcel_and_to_its_receipt() {
    trace::install(0.0);
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let device = Context::new(0x7ace_1001, 0x1);
    let source = trace::child(device, Name::ModbusRead);
    let of_source = source.as_ref().unwrap().context().span;
    let handing = store.append_batch(vec![sample("m1", 1), sample("m1", 2)]);
    let stored = trace::below(source, handing).await;
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    let spans = spans_of(device.trace);
    let commit = find(&spans, Name::StoreCommit);
    assert_eq!(commit.parent, Some(of_source));
    assert_eq!(find(&spans, Name::ModbusRead).parent, Some(device.span));

    // Nobody asked for a trace of the next one: its parcel says nothing.
    assert!(store.append(sample("m1", 3)).await.is_ok());
    let region = store.region().clone();
    let mut parcels = Vec::new();
    for priority in Priority::ALL {
        parcels.extend(store.lease(&region, priority, LIMITS).await.unwrap());
    }
    let said: Vec<_> = parcels.iter().map(|it| it.traceparent.clone()).collect();
    assert_eq!(said, [commit.context.to_string(), String::new()]);

    time.forward(250);
    let receipts = parcels.iter().map(taken).collect();
    store.settle(&region, receipts).await.unwrap();
    // What a commit did is told after its callers are answered; the writer is at its end then.
    store.close().await;
    let waited = find(&spans_of(device.trace), Name::Outbox);
    assert_eq!(waited.parent, Some(commit.context.span));
    assert_eq!(waited.until_ns - waited.from_ns, 250_000_000);
    assert_eq!(waited.says, [trace::Attribute::Outcome("accepted")]);
}

#[tokio::test]
async fn what_a_restart_finds_in_the_outbox_is_traced_as_before() {
    trace::install(0.0);
    let dir = TempDir::new().unwrap();
    let device = Context::new(0x7ace_1002, 0x1);
    let store = Store::open(options(dir.path(), hand())).unwrap();
    let source = trace::child(device, Name::MqttPublish);
    let stored = trace::below(source, store.append(sample("m1", 1))).await;
    assert!(stored.is_ok());
    store.close().await;
    drop(store);
    let store = Store::open(options(dir.path(), hand())).unwrap();
    let region = store.region().clone();
    let mut parcels = Vec::new();
    for priority in Priority::ALL {
        parcels.extend(store.lease(&region, priority, LIMITS).await.unwrap());
    }
    let commit = find(&spans_of(device.trace), Name::StoreCommit);
    assert_eq!(parcels.len(), 1);
    assert_eq!(parcels[0].traceparent, commit.context.to_string());
    store.close().await;
}
