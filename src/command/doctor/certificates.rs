//! Certificates: until when they hold, and whether a node's own names how it is reached. That key, chain and place belong
//! together is part of the configuration's check.
use super::{
    super::nodes::Node,
    finding::{Finding, Level},
};
use federation::tls::{End, ends, names, paths};
use types::Timestamp;

/// A node's certificate lasts 90 days; whoever renews it has had two months.
const CERTIFICATE_DAYS: i64 = 14;
/// A revocation list lasts 30 days.
const LIST_DAYS: i64 = 5;
/// An authority lasts ten years, and another one needs months to be everywhere.
const AUTHORITY_DAYS: i64 = 90;

/// Looks at a node's certificates.
pub fn examine(node: &Node, now: Timestamp) -> Vec<Finding> {
    let bad = |error: federation::tls::TlsError| {
        Finding::bad("certificates", error.to_string(), "put the file back")
    };
    let mut findings = match ends(&paths(&node.tls).keeping(&node.data_dir)) {
        Ok(ends) => ends.iter().map(|end| judge_end(end, now)).collect(),
        Err(error) => vec![bad(error)],
    };
    match names(&node.tls) {
        Ok(names) => findings.push(judge_names(&reached_as(node), &names)),
        Err(error) => findings.push(bad(error)),
    }
    findings
}

fn judge_end(end: &End, now: Timestamp) -> Finding {
    let days = end.until.since(now).div_euclid(Timestamp::DAY_MS);
    let (soon, advice) = match end.key {
        "tls.ca" => (
            AUTHORITY_DAYS,
            "make another authority, and put its certificate beside this one at every node (docs/operations.md)",
        ),
        "tls.crl" => (
            LIST_DAYS,
            "on the authority's machine: medmesh pki crl --dir DIR > crl.pem; copy it here",
        ),
        _ => (
            CERTIFICATE_DAYS,
            "medmesh pki request here, to another --out; invite and sign on the authority's machine (infra/README.md)",
        ),
    };
    let path = end.path.display();
    let says = match days {
        ..0 => format!("{path} ended at {}", end.until),
        _ => format!("{path} holds for {days} days"),
    };
    let level = match days {
        ..0 => Level::Bad,
        _ if days < soon => Level::Warning,
        _ => Level::Good,
    };
    let advice = if level == Level::Good { "" } else { advice };
    Finding::new("certificates", level, says, advice)
}

/// By which host clients reach the node; none when nobody can tell from here.
fn reached_as(node: &Node) -> Option<String> {
    let Some(url) = &node.https.public_url else {
        let ip = node.https.listen.ip();
        return (!ip.is_unspecified()).then(|| ip.to_string());
    };
    let rest = url.strip_prefix("https://")?.trim_end_matches('/');
    let host = match rest.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => rest,
    };
    Some(host.trim_matches(['[', ']']).to_owned())
}

fn judge_names(reached: &Option<String>, names: &[String]) -> Finding {
    match reached {
        None => Finding::good(
            "names",
            format!("the certificate names {}", names.join(", ")),
        ),
        Some(host) if names.iter().any(|name| name.eq_ignore_ascii_case(host)) => {
            Finding::good("names", format!("the certificate names {host}"))
        }
        Some(host) => Finding::warning(
            "names",
            format!("clients reach the node as {host}, which its certificate does not name"),
            "invite it again with --name, and let it enrol: clients that check names refuse it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(key: &'static str, days: i64) -> Level {
        let (path, now) = ("x.pem".into(), Timestamp(0));
        let until = now.plus_ms(days * Timestamp::DAY_MS + 1);
        let found = judge_end(&End { key, path, until }, now);
        assert_eq!(found.advice.is_empty(), found.level == Level::Good);
        found.level
    }

    #[test]
    fn what_ends_soon_is_to_be_looked_at_and_what_has_ended_is_bad() {
        for (key, soon) in [
            ("tls.ca", AUTHORITY_DAYS),
            ("tls.cert", CERTIFICATE_DAYS),
            ("tls.crl", LIST_DAYS),
        ] {
            let levels = [soon, soon - 1, 0, -1].map(|days| level(key, days));
            use Level::{Bad, Good, Warning};
            assert_eq!(levels, [Good, Warning, Warning, Bad], "{key}");
        }
    }

    #[test]
    fn a_name_that_the_certificate_lacks_is_found() {
        let names = ["node.medmesh.internal".to_owned(), "127.0.0.1".to_owned()];
        let judged = |host: &str| judge_names(&Some(host.to_owned()), &names).level;
        assert_eq!(judged("127.0.0.1"), Level::Good);
        assert_eq!(judged("NODE.medmesh.internal"), Level::Good);
        assert_eq!(judged("edge.example.org"), Level::Warning);
        assert_eq!(judge_names(&None, &names).level, Level::Good);
    }
}
