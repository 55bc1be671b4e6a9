//! The engines of production: whether they answer, and promise what the mesh promises.
use super::{
    super::nodes::{Engine, Node},
    finding::Finding,
};
use regional::engine::{Examined, Replication, Report, TIMELINE_FILE, Worked, worked};
use std::collections::BTreeSet;

const CHECK: &str = "postgres";

/// Looks at the engine of a node.
pub async fn examine(node: &Node) -> Vec<Finding> {
    match &node.engine {
        Engine::Files => Vec::new(),
        Engine::Postgres(store) => match regional::engine::examine(store).await {
            Ok(servers) => {
                let mut findings = judge_servers(&servers, node.is_of_two);
                findings.extend(judge_timeline(&servers, worked(&node.data_dir)));
                findings
            }
            Err(error) => vec![silent(error)],
        },
        Engine::Cassandra(nodes) => vec![judge_cassandra(nodes, reach(nodes).await)],
    }
}

fn silent(error: String) -> Finding {
    Finding::bad(
        CHECK,
        error,
        "look whether the server runs and lets this role in (pg_isready, pg_hba.conf), and at store.url_file",
    )
}

/// Those of a region, all of which its nodes may work with.
fn judge_servers(servers: &[Examined], is_of_two: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (server, answer) in servers {
        match answer {
            Ok(report) => findings.extend(judge_postgres(server, report)),
            Err(error) => findings.push(silent(format!("{server}: {error}"))),
        }
    }
    if servers.len() > 1 {
        findings.extend(judge_copies(servers));
        return findings;
    }
    if servers
        .iter()
        .flat_map(|(_, it)| it)
        .any(|it| it.is_standby)
    {
        let advice = "name the primary in store.url_file, or promote this server (pg_ctl promote)";
        let says = "is a standby, which takes no writes";
        findings.push(Finding::bad(CHECK, says, advice));
    }
    if is_of_two {
        findings.push(Finding::warning(
            CHECK,
            "one server is named for two nodes: both stand while it is away",
            "name its standby in store.url_file too, unless this name leads to another server by itself (Aurora)",
        ));
    }
    findings
}

fn judge_postgres(server: &str, report: &Report) -> Vec<Finding> {
    let tls = if report.is_tls {
        "by TLS"
    } else {
        "on this machine"
    };
    let mut findings = vec![Finding::good(
        CHECK,
        format!("{server}: version {} answers, {tls}", report.version),
    )];
    if report.fsync != "on" {
        let advice =
            "ALTER SYSTEM SET fsync = on, and restart it: the region refuses to write to it";
        let says = format!("{server}: fsync is {}", report.fsync);
        findings.push(Finding::bad(CHECK, says, advice));
    }
    if !["on", "remote_apply"].contains(&report.synchronous_commit.as_str()) {
        let says = format!(
            "{server}: synchronous_commit is {}",
            report.synchronous_commit
        );
        let advice = "ALTER SYSTEM SET synchronous_commit = on; the region asks for it on each connection all the same";
        findings.push(Finding::warning(CHECK, says, advice));
    }
    findings
}

/// What several servers are to each other.
fn judge_copies(servers: &[Examined]) -> Vec<Finding> {
    let reports = servers
        .iter()
        .filter_map(|(server, report)| Some((server, report.as_ref().ok()?)));
    let known: Vec<_> = reports
        .filter_map(|(server, report)| Some((server, report.is_standby, report.replication?)))
        .collect();
    let mut findings = Vec::new();
    let systems: BTreeSet<_> = known.iter().map(|(_, _, it)| it.system).collect();
    if systems.len() > 1 {
        let advice = "name one server and its standbys in store.url_file (pg_basebackup makes one)";
        findings.push(Finding::bad(
            CHECK,
            "these servers are no copies of one",
            advice,
        ));
    }
    let writing: Vec<_> = known
        .iter()
        .filter(|(_, is_standby, _)| !is_standby)
        .collect();
    match writing[..] {
        [] => findings.push(Finding::bad(
            CHECK,
            "none of these servers takes writes",
            "see that the primary is stopped for good, then: pg_ctl promote on its standby",
        )),
        [(server, _, own)] => findings.extend(judge_primary(server, own)),
        _ => {
            let named = writing.iter();
            let named: Vec<_> = named
                .map(|(server, _, own)| format!("{server} (timeline {})", own.timeline))
                .collect();
            findings.push(Finding::bad(
                CHECK,
                format!("{} take writes", named.join(" and ")),
                "stop the one of the older timeline: it was the primary before the other was promoted; make it a standby",
            ));
        }
    }
    findings
}

/// What the servers are to the timeline that the node has worked with.
fn judge_timeline(servers: &[Examined], worked: Result<Option<Worked>, String>) -> Option<Finding> {
    let worked = match worked {
        Ok(worked) => worked?,
        Err(error) => {
            let advice = format!(
                "look at {TIMELINE_FILE} in the data directory; remove it where no newer primary than this one ever was"
            );
            return Some(Finding::bad(CHECK, error, &advice));
        }
    };
    for (server, report) in servers {
        let Ok(Report {
            is_standby: false,
            replication: Some(own),
            ..
        }) = report
        else {
            continue;
        };
        let now = Worked {
            system: own.system,
            timeline: own.timeline,
        };
        if now.is_before(&worked) {
            let says = format!(
                "{server} takes writes on timeline {}, and this node has worked with timeline {}",
                now.timeline, worked.timeline
            );
            let advice = format!(
                "stop it: another server was promoted since; make it a standby of that one. To go on with it, and without what \
                 that one has: stop the node, and remove {TIMELINE_FILE} from its data directory"
            );
            return Some(Finding::bad(CHECK, says, &advice));
        }
    }
    let says = format!(
        "the newest timeline that this node has worked with is {}",
        worked.timeline
    );
    Some(Finding::good(CHECK, says))
}

/// Whether the loss of the one that takes writes costs nothing that was answered.
fn judge_primary(server: &str, own: &Replication) -> Option<Finding> {
    if !own.is_synchronous {
        return Some(Finding::bad(
            CHECK,
            format!("{server} waits for no standby: what it alone has is lost with it"),
            "ALTER SYSTEM SET synchronous_standby_names = '*' once a standby follows it, and pg_reload_conf()",
        ));
    }
    let says = format!("{server} waits for a standby, and none follows: no commit is answered");
    (own.standbys == 0).then(|| {
        Finding::bad(
            CHECK,
            says,
            "start the standby; or, if it is lost and this is not an old primary: synchronous_standby_names = ''",
        )
    })
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

    fn report() -> Report {
        Report {
            version: "17.2".into(),
            fsync: "on".into(),
            synchronous_commit: "on".into(),
            is_standby: false,
            is_tls: true,
            replication: None,
        }
    }

    fn of(is_standby: bool, replication: Replication) -> Report {
        Report {
            is_standby,
            replication: Some(replication),
            ..report()
        }
    }

    /// The worst that is found of these servers.
    fn worst(reports: &[Report], is_of_two: bool) -> (Level, String) {
        let named = reports.iter().zip(["a:1", "b:2"]);
        let servers: Vec<_> = named
            .map(|(report, name)| (name.to_owned(), Ok(report.clone())))
            .collect();
        let findings = judge_servers(&servers, is_of_two);
        let worst = findings.iter().max_by_key(|it| it.level).unwrap().clone();
        (worst.level, worst.says)
    }

    #[test]
    fn an_engine_that_may_lose_what_was_answered_is_found() {
        assert_eq!(worst(&[report()], false).0, Level::Good);
        let no_fsync = Report {
            fsync: "off".into(),
            ..report()
        };
        let lazy = Report {
            synchronous_commit: "off".into(),
            ..report()
        };
        let standby = Report {
            is_standby: true,
            ..report()
        };
        for (report, is_of_two, level, says) in [
            (no_fsync, false, Level::Bad, "fsync is off"),
            (lazy, false, Level::Warning, "synchronous_commit is off"),
            (standby, false, Level::Bad, "standby"),
            (report(), true, Level::Warning, "one server is named"),
        ] {
            let (found, said) = worst(&[report], is_of_two);
            assert_eq!(found, level);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_primary_that_waits_for_no_standby_and_one_that_returned_are_found() {
        let good = Replication {
            timeline: 1,
            system: 7,
            is_synchronous: true,
            standbys: 1,
        };
        let follows = Replication {
            timeline: 0,
            is_synchronous: false,
            standbys: 0,
            ..good
        };
        let standby = of(true, follows);
        let both = |own: Replication| [of(false, own), standby.clone()];
        assert_eq!(worst(&both(good), true).0, Level::Good);
        let alone = Replication {
            is_synchronous: false,
            ..good
        };
        let waits = Replication {
            standbys: 0,
            ..good
        };
        let foreign = Replication { system: 8, ..good };
        let promoted = Replication {
            timeline: 2,
            ..alone
        };
        for (reports, says) in [
            (both(alone), "a:1 waits for no standby"),
            (both(waits), "no commit is answered"),
            (both(foreign), "no copies of one"),
            ([standby.clone(), standby.clone()], "none of these"),
            (
                [of(false, good), of(false, promoted)],
                "a:1 (timeline 1) and b:2 (timeline 2) take writes",
            ),
        ] {
            let (level, said) = worst(&reports, true);
            assert_eq!(level, Level::Bad);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn an_old_primary_that_the_node_has_left_is_found_and_what_it_works_with_is_shown() {
        let own = Replication {
            timeline: 2,
            system: 7,
            is_synchronous: true,
            standbys: 1,
        };
        let judged = |timeline| {
            let servers = [("a:1".to_owned(), Ok(of(false, own)))];
            let worked = Worked {
                system: 7,
                timeline,
            };
            judge_timeline(&servers, Ok(Some(worked))).unwrap()
        };
        assert_eq!(judged(2).level, Level::Good);
        let found = judged(3);
        assert_eq!(found.level, Level::Bad);
        let says = "a:1 takes writes on timeline 2, and this node has worked with timeline 3";
        assert_eq!(found.says, says);
        assert_eq!(judge_timeline(&[], Ok(None)), None);
        let unread = judge_timeline(&[], Err("no".into())).unwrap();
        assert_eq!(unread.level, Level::Bad);
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
        let servers = regional::engine::examine(&store).await.unwrap();
        let found = judge_servers(&servers, false);
        assert_eq!((found.len(), found[0].level), (1, Level::Bad), "{found:?}");
        let named = ["127.0.0.1:1".to_owned()];
        assert_eq!(
            judge_cassandra(&named, Err("no answer".into())).level,
            Level::Bad
        );
        assert_eq!(judge_cassandra(&named, Ok(())).level, Level::Good);
    }
}
