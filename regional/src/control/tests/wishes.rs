//! What is desired and is not brought about at once.
use super::*;

/// Nobody commands a device of this jurisdiction from outside.
const NO_COMMANDS: &str = r#"
@id("no-commands")
forbid (principal, action, resource)
when { context.class == Class::"command" };
"#;

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
        let waits = |commit: &mut federation::ledger::Commit<'_>| {
            let sql = "SELECT retry FROM want WHERE settled = 0 AND command IS NULL";
            let retry: i64 = commit.tx().query_row(sql, [], |row| row.get(0))?;
            Ok(retry)
        };
        let retry = world.control.ledger.commit("test", waits).await.unwrap();
        assert!(retry - before.0 >= least, "{tries}");
        least = (2 * least).min(MAX_RETRY_MS);
        world.sql("UPDATE want SET retry = 0").await;
    }
}
