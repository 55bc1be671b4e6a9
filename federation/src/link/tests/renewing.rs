//! A node gets its next certificate over a real link, from a real authority, and takes nothing else for it.
use super::{EDGE, Edge, LinkState, US, edge, region_with};
use crate::{
    identity::Serial,
    link::renew::{NotRenewed, RenewError, Renewing, Renews, device_of, is_due},
    pki::{self, NODE_DAYS, Reason},
    testbed::{Holder, NOW, Testbed, device, eventually, node, place},
    wire::{DeviceRequest, Renewal},
};
use async_trait::async_trait;
use std::{fs, net::SocketAddr, sync::Arc};
use types::{Place, Timestamp};

/// The authority of the bed, which answers what a test wants.
struct Authority {
    bed: Arc<Testbed>,
    /// What is made of its answer.
    then: fn(&Testbed, String) -> String,
}

#[async_trait]
impl Renews for Authority {
    async fn renew(&self, who: &Place, asked: Renewal) -> Result<String, NotRenewed> {
        assert_eq!(*who, place(EDGE));
        let now = (self.bed.time())();
        let shown = (&*asked.certificate, &*asked.request, &asked.proof[..]);
        let pem = self
            .bed
            .ca
            .rotate_if(shown, now, &mut rand::rng(), |_, _| true);
        let pem = pem.map_err(|error| NotRenewed::Refused(error.to_string()))?;
        Ok((self.then)(&self.bed, pem))
    }

    async fn certify(
        &self,
        (who, by): (&Place, &Serial),
        asked: DeviceRequest,
    ) -> Result<String, NotRenewed> {
        let device = asked.device.parse().unwrap();
        let identity = device_of(who, &device).unwrap();
        let (now, rng) = ((self.bed.time())(), &mut rand::rng());
        let ca = &self.bed.ca;
        let pem = ca.certify_if((by, &identity), &asked.request, now, rng, |_| true);
        let pem = pem.map_err(|error| NotRenewed::Refused(error.to_string()))?;
        Ok((self.then)(&self.bed, pem))
    }
}

fn renewing(bed: &Testbed, holder: &Holder, to: SocketAddr) -> Renewing {
    Renewing {
        urls: vec![format!("https://{to}")],
        there: place(US),
        tls: bed.tls(holder),
        cert: holder.paths.cert.clone(),
        key: holder.paths.key.clone(),
        signing: holder.key.clone(),
        turn: Arc::default(),
    }
}

fn is_up(link: &Edge) -> bool {
    matches!(*link.state.borrow(), LinkState::Up { .. })
}

fn files(holder: &Holder) -> [Vec<u8>; 2] {
    [&holder.paths.cert, &holder.paths.key].map(|path| fs::read(path).unwrap())
}

#[tokio::test]
async fn a_node_gets_its_next_certificate_while_its_link_stays_up() {
    let bed = Arc::new(Testbed::new());
    let (upper, lower) = (bed.holder(&node(US)), bed.holder(&node(EDGE)));
    let authority = Arc::new(Authority {
        bed: bed.clone(),
        then: |_, pem| pem,
    });
    let region = region_with(&bed, &upper, Some(authority)).await;
    let link = edge(&bed, &lower, region.address, US);
    eventually("the link is up", || is_up(&link)).await;
    let renewing = renewing(&bed, &lower, region.address);
    let before = (renewing.tls.me(), files(&lower));
    assert!(!is_due(&renewing.tls, before.0.not_before));
    let until = before.0.not_after;
    assert!(is_due(&renewing.tls, until.plus_days(-NODE_DAYS / 3)));
    bed.set(NOW.plus_days(20));
    let new = renewing.renew().await.unwrap();
    assert!(new > until, "{new} {until}");
    let after = files(&lower);
    assert!(after.iter().zip(&before.1).all(|(new, old)| new != old));
    let reopened = bed.tls(&lower).me();
    assert_eq!(reopened.not_after, new);
    assert_eq!(reopened.key, before.0.key, "it signs receipts as before");
    assert!(is_up(&link), "the open link stays");
    // With the new pair it is let in.
    let again = edge(&bed, &lower, region.address, US);
    eventually("the link is up again", || is_up(&again)).await;
    again.stop.cancel();
    link.stop.cancel();
    region.stop.cancel();
}

#[tokio::test]
async fn what_is_no_certificate_of_this_node_for_its_new_key_changes_nothing() {
    let answers: [fn(&Testbed, String) -> String; 4] = [
        |_, _| "nothing".into(),
        |bed, _| read(&bed.holder(&node("edge/us/us/us-f2"))),
        |bed, _| read(&bed.holder(&node(EDGE))),
        |_, pem| pem.replace("BEGIN", "BEGUN"),
    ];
    for (at, then) in answers.into_iter().enumerate() {
        let bed = Arc::new(Testbed::new());
        let (upper, lower) = (bed.holder(&node(US)), bed.holder(&node(EDGE)));
        let authority = Arc::new(Authority {
            bed: bed.clone(),
            then,
        });
        let region = region_with(&bed, &upper, Some(authority)).await;
        let before = files(&lower);
        let said = renewing(&bed, &lower, region.address).renew().await;
        assert!(matches!(said, Err(RenewError::Unfit(_))), "{at}: {said:?}");
        assert_eq!(files(&lower), before, "{at}");
        region.stop.cancel();
    }
}

fn read(holder: &Holder) -> String {
    fs::read_to_string(&holder.paths.cert).unwrap()
}

#[tokio::test]
async fn a_facility_gets_the_certificate_of_its_device_and_takes_no_other_for_it() {
    let monitor = "lab-1".parse().unwrap();
    let csr = pki::new_key_and_csr(&device(), None).unwrap().csr_pem;
    type Then = fn(&Testbed, String) -> String;
    let answers: [(Then, bool); 5] = [
        (|_, pem| pem, true),
        (|_, _| "nothing".into(), false),
        (|bed, _| read(&bed.holder(&node(EDGE))), false),
        (
            |bed, _| {
                let other = "spiffe://medmesh/device/us/us/us-f1/lab-2".parse().unwrap();
                read(&bed.holder(&other))
            },
            false,
        ),
        // Of another mesh.
        (|_, _| read(&Testbed::new().holder(&device())), false),
    ];
    for (at, (then, is_taken)) in answers.into_iter().enumerate() {
        let bed = Arc::new(Testbed::new());
        let (upper, lower) = (bed.holder(&node(US)), bed.holder(&node(EDGE)));
        let authority = Arc::new(Authority {
            bed: bed.clone(),
            then,
        });
        let region = region_with(&bed, &upper, Some(authority)).await;
        let renewing = renewing(&bed, &lower, region.address);
        let said = renewing.certify(&monitor, &csr).await;
        assert_eq!(said.is_ok(), is_taken, "{at}: {said:?}");
        let refused = renewing.certify(&monitor, "no request").await.unwrap_err();
        assert!(refused.refusal().is_some(), "{refused}");
        // Revoked a moment ago, and still let in.
        let facility = renewing.tls.me().serial;
        bed.ca
            .revoke(&facility, Reason::KeyCompromise, NOW)
            .unwrap();
        let refused = renewing.certify(&monitor, &csr).await.unwrap_err();
        let says = format!("certificate {facility} is revoked");
        assert_eq!(refused.refusal(), Some(&*says), "{refused}");
        region.stop.cancel();
    }
}

#[tokio::test]
async fn devices_that_enrol_at_once_and_a_command_beside_the_node_do_not_cost_it_its_link() {
    let bed = Arc::new(Testbed::new());
    let (upper, lower) = (bed.holder(&node(US)), bed.holder(&node(EDGE)));
    let authority = Arc::new(Authority {
        bed: bed.clone(),
        then: |_, pem| pem,
    });
    let region = region_with(&bed, &upper, Some(authority)).await;
    let mut link = edge(&bed, &lower, region.address, US);
    eventually("the link is up", || is_up(&link)).await;
    link.state.mark_unchanged();
    let of_the_node = renewing(&bed, &lower, region.address);
    // `medmesh edge renew` is another process, which waits for no turn of the node's.
    let of_a_person = renewing(&bed, &lower, region.address);
    let csr = pki::new_key_and_csr(&device(), None).unwrap().csr_pem;
    let asked = (0..8).map(|_| {
        let (renewing, csr) = (of_the_node.clone(), csr.clone());
        tokio::spawn(async move {
            let monitor = "lab-1".parse().unwrap();
            renewing.certify(&monitor, &csr).await.map(drop)
        })
    });
    let asked: Vec<_> = asked.collect();
    of_a_person.renew().await.unwrap();
    for one in asked {
        one.await.unwrap().unwrap();
    }
    assert!(!link.state.has_changed().unwrap(), "the link was cut");
    assert!(is_up(&link));
    link.stop.cancel();
    region.stop.cancel();
}

#[tokio::test]
async fn where_no_authority_is_the_node_is_told_so() {
    let bed = Testbed::new();
    let (upper, lower) = (bed.holder(&node(US)), bed.holder(&node(EDGE)));
    let region = region_with(&bed, &upper, None).await;
    let said = renewing(&bed, &lower, region.address).renew().await;
    let code = tonic::Code::Unimplemented;
    assert!(
        matches!(&said, Err(RenewError::Refused { code: found, .. }) if *found == code),
        "{said:?}"
    );
    region.stop.cancel();
}

impl Testbed {
    fn set(&self, to: Timestamp) {
        self.now.store(to.0, std::sync::atomic::Ordering::SeqCst);
    }
}
