//! What is desired and is not brought about at once.
use super::*;

/// Nobody commands a device of this jurisdiction from outside.
const NO_COMMANDS: &str = r#"
@id("no-commands")
forbid (principal, action, resource)
when { context.class == Class::"command" };
"#;

impl World {
    /// When what is desired and was not brought about is tried again, in milliseconds.
    async fn retry(&self) -> i64 {
        let waits = |commit: &mut federation::ledger::Commit<'_>| {
            let sql = "SELECT retry FROM want WHERE settled = 0 AND command IS NULL";
            let retry: i64 = commit.tx().query_row(sql, [], |row| row.get(0))?;
            Ok(retry)
        };
        self.control.ledger.commit("test", waits).await.unwrap()
    }

    /// The facility says that the newest command has ended.
    async fn ended(&self, state: State, reason: &str) {
        let id: types::Id128 = self.newest().await.parse().unwrap();
        let report = CommandReport {
            command: id.as_bytes().to_vec().into(),
            device: vec![1; 16].into(),
            state: state.as_str().into(),
            reason: reason.into(),
            time_ms: Clock::new(None).real().0,
            by: "edge".into(),
        };
        let body = CommandReports {
            reports: vec![report],
        };
        self.report(EDGE, &body).await;
    }
}

#[tokio::test]
async fn what_the_rules_do_not_let_go_is_tried_ever_more_seldom() {
    let policies = tempfile::tempdir().unwrap();
    std::fs::write(policies.path().join("eu.cedar"), NO_COMMANDS).unwrap();
    let world = World::under(Rules::load(Some(policies.path())).unwrap()).await;
    world.set(json!("5s")).await;
    let mut least = RETRY_MS;
    for tries in 1..=8 {
        let before = Clock::new(None).real();
        assert_eq!(world.commands().await, tries);
        let refused = ("queued refused".to_owned(), json!("policy"));
        assert_eq!(world.ends().await[0], refused);
        assert!(world.retry().await - before.0 >= least, "{tries}");
        least = (2 * least).min(MAX_RETRY_MS);
        world.sql("UPDATE want SET retry = 0").await;
    }
}

#[tokio::test]
async fn what_nobody_decided_against_is_tried_ever_more_seldom() {
    for (state, reason) in [
        // Its device left it for another command.
        (State::Expired, "unanswered"),
        // The clock of the facility is behind.
        (State::Refused, "not-yet"),
        (State::Refused, "unknown-device"),
    ] {
        let world = World::new().await;
        world.set(json!("5s")).await;
        for least in [RETRY_MS, 2 * RETRY_MS] {
            world.commands().await;
            let before = Clock::new(None).real();
            world.ended(state, reason).await;
            assert!(world.retry().await - before.0 >= least, "{reason}");
            world.sql("UPDATE want SET retry = 0").await;
        }
    }
    let world = World::new().await;
    world.set(json!("5s")).await;
    world.commands().await;
    world.ended(State::Refused, "refused-locally").await;
    world.sql("UPDATE want SET retry = 0").await;
    assert_eq!(world.commands().await, 1, "somebody has decided");
}

#[tokio::test]
async fn a_facility_for_which_no_more_may_wait_holds_nothing_else_up() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 1);
    let limits = json!({"name": "set-alarm-limits", "parameters": {"heart-rate-high": 120}});
    assert_eq!(world.ask("k1", limits).await.0, StatusCode::ACCEPTED);
    world.set(json!("9s")).await;
    world
        .sql("UPDATE outbox_counter SET bytes = 1073741824")
        .await;
    world
        .sql("UPDATE command SET expires = 0 WHERE safety = 1")
        .await;
    assert_eq!(world.commands().await, 2, "it cannot be told now");
    let queued = ("queued".to_owned(), Value::Null);
    let unapproved = ("queued expired".to_owned(), json!("unapproved"));
    assert_eq!(world.ends().await, [unapproved.clone(), queued.clone()]);
    world.sql("UPDATE outbox_counter SET bytes = 0").await;
    world.sql("UPDATE want SET retry = 0").await;
    assert_eq!(world.commands().await, 3);
    let superseded = ("queued expired".to_owned(), json!("superseded"));
    assert_eq!(world.ends().await, [queued, unapproved, superseded]);
}

#[tokio::test]
async fn a_wish_that_was_put_off_while_the_clock_was_ahead_is_brought_about() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    let put_off = |retry: i64| {
        move |commit: &mut federation::ledger::Commit<'_>| {
            let sql = "UPDATE want SET retry = ?1";
            Ok(commit.tx().execute(sql, [retry])?)
        }
    };
    let now = Clock::new(None).real();
    for (retry, expected) in [
        (now.plus_ms(MAX_RETRY_MS / 2), 0),
        (now.plus_ms(Timestamp::DAY_MS), 1),
    ] {
        let step = put_off(retry.0);
        world.control.ledger.commit("test", step).await.unwrap();
        assert_eq!(world.commands().await, expected);
    }
}

#[tokio::test]
async fn a_facility_that_cannot_be_told_again_what_it_lacks_holds_no_other_one_up() {
    let world = World::new().await;
    let ledger = world.control.ledger.clone();
    let files = federation::blobs::Files::open(&world.dir.path().join("blobs")).unwrap();
    let blobs = federation::blobs::Blobs::new(ledger.clone(), Arc::new(files));
    crate::deliveries::Deliveries::open(ledger.clone(), Arc::new(blobs), rand::random)
        .await
        .unwrap();
    assert_eq!(
        world.ask("k1", set_interval()).await.0,
        StatusCode::ACCEPTED
    );
    let copied = "INSERT INTO command(id, device, facility, name, parameters, by, safety, signed, asked, expires, state, history) \
         SELECT zeroblob(16), device, 'eu-f0', name, parameters, by, safety, signed, asked, expires, state, history FROM command";
    world.sql(copied).await;
    world
        .sql("INSERT INTO outbox_lacking VALUES ('edge/eu/eu/eu-f0')")
        .await;
    world.control.look().await.unwrap();
    let full = "UPDATE outbox_counter SET bytes = 1073741824 WHERE peer = (SELECT max(peer) FROM outbox_counter)";
    world.sql(full).await;
    world
        .sql("INSERT INTO outbox_lacking VALUES ('edge/eu/eu/eu-f0'), ('edge/eu/eu/eu-f1')")
        .await;
    assert!(world.control.look().await.is_err());
    let first: types::Place = "edge/eu/eu/eu-f0".parse().unwrap();
    assert_eq!(ledger.lacking().await.unwrap(), [first]);
}
