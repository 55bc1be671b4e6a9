//! What is wrong between the TLS files of a node and its configuration, said before anything starts: files that do not
//! hold what they should, keys that are not the certificate's, a certificate of another place or authority.
//!
//! When certificates end is asked apart ([`lapsed`]): a facility whose certificate has ended, or whose clock is wrong,
//! must still start, so that only a person who asks is told.
use super::{
    Revocations, TlsError, TlsPaths,
    material::{Files, Parts},
};
use crate::{
    identity::Identity,
    pki::{CA_FILE, PkiError, load_signing_key},
};
use node::config::{Problem, TlsFiles, file};
use rustls::{
    InconsistentKeys,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::path::Path;
use types::{Place, Timestamp};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList,
    time::ASN1Time,
};

/// Where the TLS files are.
#[must_use]
pub fn paths(files: &TlsFiles) -> TlsPaths {
    TlsPaths {
        ca: files.ca.clone(),
        cert: files.cert.clone(),
        key: files.key.clone(),
        crl: files.crl.clone(),
        received: None,
        issued: None,
    }
}

/// What does not fit together, or is of another node than `here`. Files that are not there, or that others can read,
/// are said by [`TlsFiles`] itself.
#[must_use]
pub fn mismatches(files: &TlsFiles, here: &Place) -> Vec<Problem> {
    let paths = paths(files);
    let read = match Files::read(&paths) {
        Ok(read) => read,
        Err(error) => return unread(files, &error),
    };
    let mut problems = Vec::new();
    let mut note = |key: &str, error: TlsError| problems.push(Problem::new(key, error.to_string()));
    let parts = Parts {
        authorities: read.authorities(&paths).map_err(|error| note("ca", error)),
        chain: read.chain(&paths).map_err(|error| note("cert", error)),
        lists: read.lists(&paths).map_err(|error| note("crl", error)),
        key: read.key(&paths).map_err(|error| note("key", error)),
    };
    if let (Ok(authorities), Ok(lists)) = (&parts.authorities, &parts.lists)
        && let Err(error) = super::material::revocations(lists, authorities, &paths.crl)
    {
        note("crl", error);
    }
    problems.extend(of_certificate(files, here, parts));
    let wrong = |key: &str, message| Problem::new(format!("tls.{key}"), message);
    problems
        .into_iter()
        .map(|problem| wrong(&problem.path, problem.message))
        .collect()
}

/// What is wrong with an authority, in a folder, that is to sign beside a node which does not take what it signs: codes would be
/// used up for certificates that are good nowhere.
#[must_use]
pub fn untrusted(key: &str, dir: &Path, files: &TlsFiles) -> Option<Problem> {
    let path = dir.join(CA_FILE);
    // What cannot be read is said of the folder, or of tls.ca.
    let (own, trusted) = (std::fs::read(&path).ok()?, std::fs::read(&files.ca).ok()?);
    let own = CertificateDer::from_pem_slice(&own).ok();
    let mut trusted = CertificateDer::pem_slice_iter(&trusted).flatten();
    let is_trusted = own.is_some_and(|own| trusted.any(|it| it == own));
    (!is_trusted).then(|| {
        let (path, ca) = (path.display(), files.ca.display());
        let says = format!("{path} is not among the authorities in {ca}: trust it first");
        Problem::new(key, says)
    })
}

/// A file that is there and cannot be read.
fn unread(files: &TlsFiles, error: &TlsError) -> Vec<Problem> {
    let named = [
        ("ca", &files.ca),
        ("cert", &files.cert),
        ("key", &files.key),
        ("crl", &files.crl),
    ];
    let TlsError::Io { path, .. } = error else {
        return Vec::new();
    };
    let is_it = |(key, at): &(&str, &std::path::PathBuf)| *at == path && file(key, at).is_none();
    let found = named.into_iter().find(is_it);
    let problem = |(key, _)| Problem::new(format!("tls.{key}"), error.to_string());
    found.map(problem).into_iter().collect()
}

/// What is wrong with the certificate of a node, and with what should be its keys.
fn of_certificate(files: &TlsFiles, here: &Place, parts: Parts) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Ok(chain) = parts.chain else {
        return problems;
    };
    let (cert, mut say) = (files.cert.display(), |key: &str, message: String| {
        problems.push(Problem::new(key, message));
    });
    match chain.first().map(|leaf| Identity::from_cert(leaf)) {
        Some(Ok((identity, signing))) => {
            if identity.place() != Some(here) {
                say(
                    "cert",
                    format!(
                        "{cert} is the certificate of {identity}, the configuration is of {here}"
                    ),
                );
            }
            say_signing(files, signing, &mut say);
        }
        Some(Err(error)) => say("cert", format!("{cert}: {error}")),
        None => {}
    }
    if let Ok(authorities) = &parts.authorities
        && !is_issued(&chain, authorities)
    {
        let ca = files.ca.display();
        say(
            "cert",
            format!("{cert} is not issued by an authority in {ca}"),
        );
    }
    if let Ok(key) = parts.key {
        match key.certified(chain, &ring::default_provider()) {
            Ok(_) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let key = files.key.display();
                say(
                    "key",
                    format!("{key} is not the key of the certificate in {cert}"),
                );
            }
            Err(error) => say("key", format!("{}: {error}", files.key.display())),
        }
    }
    problems
}

fn say_signing(
    files: &TlsFiles,
    stated: Option<ed25519_dalek::VerifyingKey>,
    say: &mut impl FnMut(&str, String),
) {
    let (cert, path) = (files.cert.display(), &files.signing_key);
    let Some(stated) = stated else {
        return say(
            "cert",
            format!("{cert} states no key that signs for a node"),
        );
    };
    match load_signing_key(path) {
        Ok(key) if key.verifying_key() == stated => {}
        Ok(_) => {
            let path = path.display();
            say(
                "signing_key",
                format!("{path} is not the signing key that the certificate in {cert} states"),
            );
        }
        Err(error @ PkiError::NotAKey { .. }) => say("signing_key", error.to_string()),
        // Said of the file itself.
        Err(_) => {}
    }
}

/// Whether one of the authorities signed the last certificate of a chain, or is it.
fn is_issued(chain: &[CertificateDer<'_>], authorities: &[CertificateDer<'_>]) -> bool {
    let Some(last) = chain.last() else {
        return false;
    };
    let Ok((_, last_read)) = X509Certificate::from_der(last) else {
        return false;
    };
    authorities.iter().any(|authority| {
        authority == last
            || X509Certificate::from_der(authority).is_ok_and(|(_, issuer)| {
                last_read
                    .verify_signature(Some(issuer.public_key()))
                    .is_ok()
            })
    })
}

/// Certificates and lists that have ended, or do not hold yet, by the clock of this machine.
#[must_use]
pub fn lapsed(paths: &TlsPaths, now: Timestamp) -> Vec<Problem> {
    let Ok(read) = Files::read(paths) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    let authorities = read.authorities(paths);
    let revoked = authorities.as_ref().ok();
    let revoked = revoked.and_then(|all| read.revocations(paths, all).ok());
    for (key, path, certificates) in [
        ("tls.ca", &paths.ca, authorities),
        ("tls.cert", &paths.cert, read.chain(paths)),
    ] {
        for der in certificates.unwrap_or_default() {
            if let Ok((_, certificate)) = X509Certificate::from_der(&der) {
                let holds = certificate.validity();
                let (from, until) = (instant(holds.not_before), instant(holds.not_after));
                problems.extend(outside(key, path, now, from, Some(until)));
            }
        }
    }
    for der in revoked.iter().flat_map(Revocations::lists) {
        if let Ok((_, list)) = CertificateRevocationList::from_der(der) {
            let until = list.next_update().map(instant);
            let from = instant(list.last_update());
            problems.extend(outside("tls.crl", &paths.crl, now, from, until));
        }
    }
    problems
}

fn outside(
    key: &str,
    path: &Path,
    now: Timestamp,
    from: Timestamp,
    until: Option<Timestamp>,
) -> Option<Problem> {
    let path = path.display();
    let message = match until {
        _ if now < from => format!("{path} does not hold before {from}; it is {now} here"),
        Some(until) if now > until => format!("{path} ended at {until}; it is {now} here"),
        _ => return None,
    };
    Some(Problem::new(key, message))
}

fn instant(at: ASN1Time) -> Timestamp {
    Timestamp(at.timestamp().saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pki,
        testbed::{Holder, NOW, Testbed, device, node},
    };
    use ed25519_dalek::pkcs8::{EncodePrivateKey, spki::der::pem::LineEnding};

    const DAY_MS: i64 = 86_400_000;
    const TIERS: [&str; 3] = ["edge/us/us/us-f1", "regional/us/us", "global"];

    fn files(bed: &Testbed, holder: &Holder) -> TlsFiles {
        let signing_key = holder.paths.key.with_extension("signing");
        let pem = holder.key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let pem = types::Secret::new(pem.to_string());
        pki::write_private(&signing_key, &pem).unwrap();
        TlsFiles {
            ca: bed.ca.ca_path(),
            cert: holder.paths.cert.clone(),
            key: holder.paths.key.clone(),
            signing_key,
            crl: bed.ca.crl_path(),
        }
    }

    fn keys(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|it| it.path.as_str()).collect()
    }

    #[test]
    fn files_of_one_node_fit_and_those_of_another_place_or_tier_do_not() {
        let bed = Testbed::new();
        for tier in TIERS {
            let own = files(&bed, &bed.holder(&node(tier)));
            let here: Place = tier.parse().unwrap();
            assert_eq!(mismatches(&own, &here), []);
            for other in [
                "edge/us/us/us-f2",
                "regional/us/us-west",
                "regional/eu/us",
                "global",
            ] {
                let there: Place = other.parse().unwrap();
                if there == here {
                    continue;
                }
                let found = mismatches(&own, &there);
                assert_eq!(keys(&found), ["tls.cert"], "{tier} as {other}");
                let says = &found[0].message;
                assert!(says.contains(tier) && says.contains(other), "{says}");
            }
        }
        let own = files(&bed, &bed.holder(&device()));
        let found = mismatches(&own, &TIERS[0].parse().unwrap());
        assert_eq!(keys(&found), ["tls.cert", "tls.cert"], "{found:?}");
    }

    #[test]
    fn an_authority_that_the_node_does_not_take_signs_nothing_beside_it() {
        let (bed, other) = (Testbed::new(), Testbed::new());
        let mut own = files(&bed, &bed.holder(&node(TIERS[1])));
        let of = |bed: &Testbed, own: &TlsFiles| {
            let found = untrusted("authority", &bed.dir.path().join("ca"), own);
            found.map(|problem| problem.path)
        };
        assert_eq!(of(&bed, &own), None);
        assert_eq!(of(&other, &own).as_deref(), Some("authority"));
        let both = [&bed, &other].map(|bed| std::fs::read_to_string(bed.ca.ca_path()).unwrap());
        own.ca = bed.dir.path().join("both.pem");
        std::fs::write(&own.ca, both.concat()).unwrap();
        assert_eq!(of(&other, &own), None, "one of two");
    }

    #[test]
    fn every_file_that_is_of_another_node_or_authority_is_named() {
        let (bed, foreign) = (Testbed::new(), Testbed::new());
        for tier in TIERS {
            let here: Place = tier.parse().unwrap();
            let own = files(&bed, &bed.holder(&node(tier)));
            let other = files(&bed, &bed.holder(&node(tier)));
            let strange = files(&foreign, &foreign.holder(&node(tier)));
            let with = |change: &dyn Fn(&mut TlsFiles)| {
                let mut files = own.clone();
                change(&mut files);
                mismatches(&files, &here)
            };
            for (change, expected) in [
                (
                    &(|it: &mut TlsFiles| it.key.clone_from(&other.key)) as &dyn Fn(&mut TlsFiles),
                    &["tls.key"][..],
                ),
                (
                    &|it: &mut TlsFiles| it.signing_key.clone_from(&other.signing_key),
                    &["tls.signing_key"],
                ),
                (
                    &|it: &mut TlsFiles| it.cert.clone_from(&other.cert),
                    &["tls.signing_key", "tls.key"],
                ),
                (
                    &|it: &mut TlsFiles| it.ca.clone_from(&strange.ca),
                    &["tls.crl", "tls.cert"],
                ),
                (
                    &|it: &mut TlsFiles| it.crl.clone_from(&strange.crl),
                    &["tls.crl"],
                ),
                (
                    &|it: &mut TlsFiles| it.cert.clone_from(&own.key),
                    &["tls.cert"],
                ),
                (
                    &|it: &mut TlsFiles| it.key.clone_from(&own.cert),
                    &["tls.key"],
                ),
                (&|it: &mut TlsFiles| it.ca.clone_from(&own.key), &["tls.ca"]),
                (
                    &|it: &mut TlsFiles| it.crl.clone_from(&own.cert),
                    &["tls.crl"],
                ),
                (
                    &|it: &mut TlsFiles| it.signing_key.clone_from(&own.key),
                    &["tls.signing_key"],
                ),
            ] {
                let found = with(change);
                assert_eq!(keys(&found), expected, "{tier}: {found:?}");
            }
        }
    }

    #[test]
    fn what_has_ended_or_does_not_hold_yet_is_named_with_its_time() {
        let bed = Testbed::new();
        for tier in TIERS {
            let own = files(&bed, &bed.holder(&node(tier)));
            assert_eq!(lapsed(&paths(&own), NOW), []);
            let in_days = |days: i64| lapsed(&paths(&own), NOW.plus_ms(days * DAY_MS));
            let crl = i64::from(pki::CRL_DAYS) + 1;
            assert_eq!(keys(&in_days(crl)), ["tls.crl"]);
            let cert = i64::from(pki::NODE_DAYS) + 1;
            assert_eq!(keys(&in_days(cert)), ["tls.cert", "tls.crl"]);
            let all = ["tls.ca", "tls.cert", "tls.crl"];
            assert_eq!(keys(&in_days(i64::from(pki::CA_DAYS) + 1)), all);
            assert_eq!(keys(&in_days(-400)), all);
            let says = &in_days(crl)[0].message;
            assert!(says.contains("ended at"), "{says}");
            // Whether files fit does not hang on the clock.
            assert_eq!(mismatches(&own, &tier.parse().unwrap()), []);
        }
    }
}
