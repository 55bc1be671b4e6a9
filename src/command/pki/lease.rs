//! `medmesh pki lease`: what lets a facility send while it has nobody to ask.
use crate::{cli::pki::LeaseArgs, out};
use anyhow::{Context, Result, ensure};
use edge::lease::{Lease, MAX_LEASE_MS, Subject};
use federation::{
    identity::Identity,
    pki::{self, Ca, Issued},
};
use node::quantity::Span;
use serde_json::{Map, Value, json};
use std::{fs, path::PathBuf};
use types::{Place, Timestamp};

/// The key that leases are signed with, in the folder of the authority: `lease.key` and `lease.pem`.
const AUTHORITY: &str = "lease";

/// Issues a lease of every subject.
pub fn issue(args: &LeaseArgs, now: Timestamp) -> Result<()> {
    let Place::Edge { .. } = args.node else {
        anyhow::bail!("{} is no facility: only these have leases", args.node);
    };
    let expires = end(args.ttl, now)?;
    // Whoever can read the authority's key is the authority.
    let ca = Ca::open(&args.dir)?;
    is_trusted(&ca.list()?, &args.node)?;
    let (key, authority) = pki::note_authority(&args.dir, AUTHORITY, &mut rand::rng())?;
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let mut written: Vec<(Subject, PathBuf)> = Vec::new();
    for subject in Subject::ALL {
        let lease = Lease {
            subject,
            place: args.node.clone(),
            issued: now,
            expires,
        };
        let path = args.out.join(subject.file_name());
        pki::write_public(&path, &lease.issue(&key))?;
        written.push((subject, path));
    }
    if args.json {
        let path = |(subject, path): &(Subject, PathBuf)| {
            (
                subject.as_str().to_owned(),
                json!(path.display().to_string()),
            )
        };
        let leases: Map<String, Value> = written.iter().map(path).collect();
        let shown = json!({
            "place": args.node.to_string(),
            "issued": now.to_string(),
            "expires": expires.to_string(),
            "authority": authority.display().to_string(),
            "leases": leases,
        });
        return Ok(out::line(shown)?);
    }
    for (_, path) in written {
        out::line(path.display())?;
    }
    Ok(out::line(format!(
        "until {expires}, checked with {}",
        authority.display()
    ))?)
}

/// A facility whose certificates are all revoked is to send nothing. One that has none yet may have its lease already.
fn is_trusted(issued: &[Issued], node: &Place) -> Result<()> {
    let own = Identity::Node(node.clone());
    let mut certificates = issued.iter().filter(|it| it.identity == own).peekable();
    let is_revoked = certificates.peek().is_some() && certificates.all(|it| it.revoked.is_some());
    ensure!(
        !is_revoked,
        "--node: {node} is revoked: it has no lease until it joins anew"
    );
    Ok(())
}

fn end(ttl: Span, now: Timestamp) -> Result<Timestamp> {
    let days = MAX_LEASE_MS / Timestamp::DAY_MS;
    let good = (1..=MAX_LEASE_MS).contains(&ttl.as_ms());
    ensure!(
        good,
        "--ttl: a lease holds for more than nothing and at most {days} days"
    );
    Ok(now.plus_ms(ttl.as_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation::pki::Reason;
    use std::time::Duration;

    #[test]
    fn a_facility_that_is_revoked_has_a_lease_again_once_it_has_joined_anew() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp(1_800_000_000_000);
        let ca = Ca::init(&dir.path().join("pki"), now).unwrap();
        let node: Place = "edge/us/us/us-f1".parse().unwrap();
        let args = LeaseArgs {
            dir: dir.path().join("pki"),
            node: node.clone(),
            ttl: "1d".parse().unwrap(),
            out: dir.path().join("leases"),
            json: false,
        };
        let join = || {
            let identity = Identity::Node(node.clone());
            let mut rng = rand::rng();
            let day = Duration::from_secs(86_400);
            let code = ca.invite(&identity, &[], day, now, &mut rng).unwrap();
            let signing = pki::signing_key(&dir.path().join("signing.key"), &mut rng).unwrap();
            let new = pki::new_key_and_csr(&identity, Some(&signing)).unwrap();
            ca.enrol(&code, &new.csr_pem, now, &mut rng).unwrap();
        };
        issue(&args, now).unwrap();
        join();
        issue(&args, now).unwrap();
        fs::remove_dir_all(&args.out).unwrap();
        ca.revoke_place(&node, Reason::KeyCompromise, now).unwrap();
        let error = issue(&args, now).unwrap_err().to_string();
        assert!(error.contains("edge/us/us/us-f1 is revoked"), "{error}");
        assert!(!args.out.exists(), "nothing is issued");
        join();
        issue(&args, now).unwrap();
    }

    #[test]
    fn a_lease_ends_in_time() {
        let now = Timestamp(1_000);
        assert_eq!(end(Span::ms(500), now).unwrap(), Timestamp(1_500));
        assert!(end(Span::ms(0), now).is_err());
        assert!(end(Span::ms(MAX_LEASE_MS.unsigned_abs() + 1), now).is_err());
    }
}
