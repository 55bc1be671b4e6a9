//! Promises of the job that makes an index anew, after the parameters or what makes rows of them have changed.
use super::finding::{draft, find_of, ids, read};
use super::searching::BASE;
use super::{Engine, fixture};
use crate::query::sql::TABLES;
use crate::store::{
    Change, Delivery, Draft, Expect, Guard, Kind, ResourceStore, ResourceType, Sights, StoreError,
    Transacted, Transaction, Unindexed,
};
use types::Timestamp;

/// Resources that clients wrote: many chunks of them.
const COUNT: u32 = 1_200;
/// Codes that they have.
const CODES: u32 = 7;
/// So many chunks are made between two openings of the store.
const BETWEEN: u32 = 5;
/// Those whose code is new for the store.
const CODE: &str = "type = 'Basic' AND param = 'code'";

/// One with a code, and a reference that leads to this server by its whole URL.
fn basic(number: u32, code: u32) -> Draft {
    let text = format!(
        r#"{{"resourceType":"Basic","code":{{"coding":[{{"system":"s","code":"c{code}"}}]}},"subject":{{"reference":"{BASE}/Patient/p"}}}}"#
    );
    draft(&text, Some(&format!("b-{number:05}")))
}

fn put(draft: Draft) -> Change {
    let expect = Expect::Anything;
    Change::Put { draft, expect }
}

async fn write(store: &dyn ResourceStore, changes: Vec<Change>) {
    let transaction = Transaction {
        author: "writer".into(),
        now: Timestamp(1),
        changes,
        guards: Vec::new(),
    };
    let done = store.transact(transaction).await.unwrap();
    assert!(matches!(done, Transacted::Done(_)));
}

/// What facilities deliver stands between what clients write.
async fn filled(store: &dyn ResourceStore) {
    for from in (0..COUNT).step_by(400) {
        let to = (from + 400).min(COUNT);
        let each = (from..to).map(|number| put(basic(number, number % CODES)));
        write(store, each.collect()).await;
        let known = [fixture::patient(from, 1950), fixture::device(from)];
        let delivery = Delivery {
            resources: known
                .into_iter()
                .chain((from..from + 50).map(fixture::observation))
                .collect(),
            ..fixture::delivery(from, 0..0)
        };
        store.apply(vec![delivery], Timestamp(1)).await.unwrap();
    }
    let observed =
        r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"x"}]}}"#;
    write(store, vec![put(draft(observed, Some("o-1")))]).await;
}

/// The rows of the whole index.
async fn rows(engine: &dyn Engine) -> i64 {
    let mut sum = 0;
    for table in TABLES {
        let count = format!("SELECT count(*) FROM {}", table.name);
        sum += engine.number(&count).await;
    }
    sum
}

/// As if the parameter had not been there yet.
async fn without_code(engine: &dyn Engine) {
    let sql = format!("DELETE FROM index_rule WHERE {CODE}; DELETE FROM index_token WHERE {CODE};");
    engine.run(&sql).await;
}

/// Everything by which a code is looked for.
const BY_CODE: [(&str, &str); 7] = [
    ("Basic", "code=s|c1"),
    ("Basic", "code:not=s|c1"),
    ("Basic", "code:missing=true"),
    ("Basic", "_sort=code"),
    ("Patient", "_has:Basic:patient:code=s|c1"),
    ("Provenance", "target:Basic.code=s|c1"),
    ("Patient", "_has:Provenance:target:target:Basic.code=s|c1"),
];

fn unindexed(refused: StoreError) -> Unindexed {
    assert_eq!(refused.kind, Kind::Unavailable);
    let source = refused.source.unwrap();
    source.downcast_ref::<Unindexed>().unwrap().clone()
}

/// How far it is, by every search that is refused.
async fn refused(store: &dyn ResourceStore) -> u8 {
    let mut percent = 0;
    for (kind, query) in BY_CODE {
        let find = find_of(read(kind, query), 10);
        let page = unindexed(store.find(&find).await.unwrap_err());
        let count = unindexed(store.count(&find).await.unwrap_err());
        assert_eq!((page.kind, page.param), ("Basic", "code"), "{query}");
        assert_eq!(page, count, "{query}");
        percent = page.percent;
    }
    let guard = Guard {
        of: 0,
        kind: ResourceType::parse("Basic").unwrap(),
        filter: find_of(read("Basic", "code=s|none"), 2).filter,
        sights: Sights::new(),
        found: None,
    };
    let transaction = Transaction {
        author: "writer".into(),
        now: Timestamp(1),
        changes: vec![put(basic(COUNT * 2, 0))],
        guards: vec![guard],
    };
    unindexed(store.transact(transaction).await.unwrap_err());
    // What was there before is answered.
    let patient = find_of(read("Basic", "subject=Patient/p"), 10);
    assert_eq!(store.find(&patient).await.unwrap().resources.len(), 10);
    percent
}

pub async fn what_is_new_is_refused_until_it_is_indexed_and_nothing_of_it_is_lost_or_doubled(
    engine: &dyn Engine,
) {
    let store = engine.open().await;
    filled(&*store).await;
    assert_eq!(store.reindex(BASE).await.unwrap(), None);
    let before = rows(engine).await;
    let of_one = "SELECT (SELECT count(*) FROM index_token WHERE type = 'Basic' AND id = 'b-00001') \
         + (SELECT count(*) FROM index_reference WHERE type = 'Basic' AND id = 'b-00001')";
    let of_one = engine.number(of_one).await;
    drop(store);
    without_code(engine).await;
    let mut store = engine.open().await;
    assert_eq!(refused(&*store).await, 0);
    let (mut chunks, mut percent) = (0, 0);
    while let Some(left) = store.reindex(BASE).await.unwrap() {
        chunks += 1;
        if left == 0 {
            continue;
        }
        if chunks % BETWEEN == 0 {
            // One that is new, one that is behind what was passed or before it, and one that is no more.
            let last = COUNT - chunks;
            let (kind, id) = (
                ResourceType::parse("Basic").unwrap(),
                basic(last, 0).id().clone(),
            );
            let expect = Expect::Present;
            let gone = Change::Delete { kind, id, expect };
            write(
                &*store,
                vec![put(basic(COUNT + chunks, 90)), put(basic(chunks, 91)), gone],
            )
            .await;
            drop(store);
            store = engine.open().await;
            let now = refused(&*store).await;
            assert!(now >= percent && now < 100, "{now}");
            percent = now;
        }
    }
    let written = (chunks - 1) / BETWEEN;
    assert!(written >= 5 && percent > 50, "{chunks}: {percent}");
    // By as many there are more of what is new, and fewer of what is no more.
    assert_eq!(rows(engine).await, before);
    assert!(of_one >= 2);
    for code in 0..CODES {
        let find = find_of(read("Basic", &format!("code=s|c{code}")), 100);
        let passed = (1..=written).map(|at| at * BETWEEN);
        let lost = passed.filter(|at| at % CODES == code || (COUNT - at) % CODES == code);
        let lost: u32 = lost
            .map(|at| u32::from(at % CODES == code) + u32::from((COUNT - at) % CODES == code))
            .sum();
        let all = (0..COUNT).filter(|number| number % CODES == code).count();
        let found = ids(&*store, find).await.len();
        assert_eq!(found + usize::try_from(lost).unwrap(), all, "c{code}");
    }
    for code in [90, 91] {
        let find = find_of(read("Basic", &format!("code=s|c{code}")), 100);
        let count = store.count(&find).await.unwrap();
        assert_eq!(count, u64::from(written), "c{code}");
    }
    assert_eq!(engine.number("SELECT count(*) FROM index_job").await, 0);
    drop(store);
    assert_eq!(engine.open().await.reindex(BASE).await.unwrap(), None);
}

pub async fn what_has_changed_is_answered_while_it_is_indexed_anew(engine: &dyn Engine) {
    let store = engine.open().await;
    filled(&*store).await;
    let before = rows(engine).await;
    drop(store);
    let sql = format!(
        "UPDATE index_rule SET rule = 'older' WHERE {CODE}; DELETE FROM index_token WHERE {CODE} AND id > 'b-00900'; \
         INSERT INTO index_rule(type, param, rule) VALUES ('Basic', 'gone', 'x');"
    );
    engine.run(&sql).await;
    let store = engine.open().await;
    let find = find_of(read("Basic", "code:missing=true"), 10);
    let lacking = store.count(&find).await.unwrap();
    assert!(lacking > 0);
    let of_sources = find_of(read("Patient", "_source=urn:medmesh:facility:"), 10);
    assert_eq!(store.count(&of_sources).await.unwrap(), 0);
    for _ in 0..3 {
        assert!(store.reindex(BASE).await.unwrap().is_some());
    }
    drop(store);
    // Another program has begun: nobody knows which rows are by whose rules.
    let stood = engine.number("SELECT seq FROM index_job").await;
    assert!(stood > 0);
    engine.run("UPDATE index_job SET target = 'another'").await;
    let store = engine.open().await;
    assert_eq!(engine.number("SELECT seq FROM index_job").await, 0);
    while store.reindex(BASE).await.unwrap().is_some() {}
    assert_eq!(store.count(&find).await.unwrap(), 0);
    assert_eq!(rows(engine).await, before);
    // Of what is no more nothing is made, and it would be new again.
    let gone = "SELECT count(*) FROM index_rule WHERE param = 'gone'";
    assert_eq!(engine.number(gone).await, 0);
}
