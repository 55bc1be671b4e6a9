//! The engines of production: whether they answer, and promise what the mesh promises.
use super::{super::nodes::Engine, finding::Finding};
use regional::engine::Report;

/// Looks at the engine of a node.
pub async fn examine(engine: &Engine) -> Vec<Finding> {
    match engine {
        Engine::Files => Vec::new(),
        Engine::Postgres(store) => match regional::engine::examine(store).await {
            Ok(report) => report.iter().flat_map(judge_postgres).collect(),
            Err(error) => vec![Finding::bad(
                "postgres",
                error,
                "look whether the server runs and lets this role in (pg_isready, pg_hba.conf), and at store.url_file",
            )],
        },
        Engine::Cassandra(nodes) => vec![judge_cassandra(nodes, reach(nodes).await)],
    }
}

fn judge_postgres(report: &Report) -> Vec<Finding> {
    const CHECK: &str = "postgres";
    let tls = if report.is_tls {
        "by TLS"
    } else {
        "on this machine"
    };
    let mut findings = vec![Finding::good(
        CHECK,
        format!("version {} answers, {tls}", report.version),
    )];
    if report.fsync != "on" {
        let advice =
            "ALTER SYSTEM SET fsync = on, and restart it: the region refuses to write to it";
        findings.push(Finding::bad(
            CHECK,
            format!("fsync is {}", report.fsync),
            advice,
        ));
    }
    if !["on", "remote_apply"].contains(&report.synchronous_commit.as_str()) {
        let says = format!("synchronous_commit is {}", report.synchronous_commit);
        let advice = "ALTER SYSTEM SET synchronous_commit = on; the region asks for it on each connection all the same";
        findings.push(Finding::warning(CHECK, says, advice));
    }
    if report.is_standby {
        let advice = "name the primary in store.url_file, or promote this server (pg_ctl promote)";
        findings.push(Finding::bad(
            CHECK,
            "is a standby, which takes no writes",
            advice,
        ));
    }
    findings
}

#[cfg(feature = "scylla")]
async fn reach(nodes: &[String]) -> Result<(), String> {
    let reached = global::catalog::scylla::reach::reach(nodes).await;
    reached.map_err(|error| error.to_string())
}

#[cfg(not(feature = "scylla"))]
async fn reach(_: &[String]) -> Result<(), String> {
    Err("this program was built without the feature scylla".into())
}

fn judge_cassandra(nodes: &[String], reached: Result<(), String>) -> Finding {
    let named = nodes.join(", ");
    match reached {
        Ok(()) => Finding::good("cassandra", format!("{named} answers")),
        Err(error) => Finding::bad(
            "cassandra",
            format!("{named}: {error}"),
            "look whether it runs (nodetool status), and at store.nodes",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn an_engine_that_may_lose_what_was_answered_is_found() {
        let good = Report {
            version: "17.2".into(),
            fsync: "on".into(),
            synchronous_commit: "on".into(),
            is_standby: false,
            is_tls: true,
        };
        let worst = |report: &Report| {
            let findings = judge_postgres(report);
            let worst = findings.iter().max_by_key(|it| it.level).unwrap().clone();
            (worst.level, worst.says)
        };
        assert_eq!(worst(&good).0, Level::Good);
        let no_fsync = Report {
            fsync: "off".into(),
            ..good.clone()
        };
        let lazy = Report {
            synchronous_commit: "off".into(),
            ..good.clone()
        };
        let standby = Report {
            is_standby: true,
            ..good
        };
        for (report, level, says) in [
            (no_fsync, Level::Bad, "fsync is off"),
            (lazy, Level::Warning, "synchronous_commit is off"),
            (standby, Level::Bad, "standby"),
        ] {
            let (found, said) = worst(&report);
            assert_eq!(found, level);
            assert!(said.contains(says), "{said}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_found() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let dir = tempfile::tempdir().unwrap();
        let url_file = dir.path().join("url");
        std::fs::write(&url_file, format!("postgres://m@127.0.0.1:{port}/x")).unwrap();
        let store = regional::config::FhirStore::Postgres { url_file, ca: None };
        let found = examine(&Engine::Postgres(store)).await;
        assert_eq!((found.len(), found[0].level), (1, Level::Bad), "{found:?}");
        let named = ["127.0.0.1:1".to_owned()];
        assert_eq!(
            judge_cassandra(&named, Err("no answer".into())).level,
            Level::Bad
        );
        assert_eq!(judge_cassandra(&named, Ok(())).level, Level::Good);
    }
}
