//! A node whose key is in a TPM, and a TPM that does not always answer.
use super::*;
use crate::{
    pki,
    testbed::{Holder, NOW, Testbed, node},
    tpm::wire,
};
use rcgen::{KeyPair, PublicKeyData};
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// A TPM that makes one key whatever it is asked for, while it answers.
struct OneKey {
    point: Vec<u8>,
    answers: AtomicBool,
}

impl OneKey {
    fn listen(self: &Arc<Self>, socket: &Path) {
        let (listener, this) = (UnixListener::bind(socket).unwrap(), Arc::clone(self));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if this.answers.load(Ordering::SeqCst) {
                    this.serve(stream.unwrap());
                }
            }
        });
    }

    /// Until whoever asks goes away.
    fn serve(&self, mut stream: UnixStream) {
        let mut head = [0; 10];
        while stream.read_exact(&mut head).is_ok() {
            let size = u32::from_be_bytes(head[2..6].try_into().unwrap());
            stream.read_exact(&mut vec![0; size as usize - 10]).unwrap();
            let mut body = wire::Writer::default();
            // `TPM2_CreatePrimary`; `TPM2_FlushContext` is answered with nothing.
            if head[6..] == [0, 0, 1, 0x31] {
                body.u32(0x8000_0000);
                body.u32(0);
                let (x, y) = self.point[1..].split_at(32);
                body.sized(&wire::public_area(wire::SIGNS, x, y));
            }
            let mut answer = wire::Writer::default();
            answer.u16(0x8001);
            answer.u32(wire::length(body.as_bytes()) + 10);
            answer.u32(0);
            answer.bytes(body.as_bytes());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }
}

/// A node whose key's file names a TPM that makes the key of its certificate.
fn in_tpm(bed: &Testbed) -> (Holder, Arc<OneKey>) {
    let holder = bed.holder(&node("regional/us/us"));
    let pair = KeyPair::from_pem(&fs::read_to_string(&holder.paths.key).unwrap()).unwrap();
    let tpm = Arc::new(OneKey {
        point: pair.der_bytes().to_vec(),
        answers: AtomicBool::new(true),
    });
    tpm.listen(&bed.dir.path().join("tpm.sock"));
    number(bed, &holder, "ab");
    (holder, tpm)
}

/// Writes the file of a key of that number.
fn number(bed: &Testbed, holder: &Holder, byte: &str) {
    let socket = bed.dir.path().join("tpm.sock");
    let (socket, number) = (socket.display(), byte.repeat(32));
    let text = format!("medmesh-tpm-key/1\ntpm {socket}\nnumber {number}\n");
    fs::write(&holder.paths.key, text).unwrap();
}

#[test]
fn a_list_counts_while_the_tpm_does_not_answer_since_the_key_is_the_same() {
    let bed = Testbed::new();
    let (region, tpm) = in_tpm(&bed);
    let edge = bed.holder(&node("edge/us/us/us-f1"));
    let (tls, edge) = (bed.tls(&region), bed.tls(&edge).me().serial);
    tpm.answers.store(false, Ordering::SeqCst);
    bed.ca
        .revoke(&edge, pki::Reason::KeyCompromise, NOW)
        .unwrap();
    assert!(tls.look().unwrap());
    assert!(tls.revocations().borrow().contains(&edge));
}

#[test]
fn what_a_tpm_refused_for_a_moment_is_taken_at_the_next_look() {
    let bed = Testbed::new();
    let (region, tpm) = in_tpm(&bed);
    let edge = bed.holder(&node("edge/us/us/us-f1"));
    let (tls, edge) = (bed.tls(&region), bed.tls(&edge).me().serial);
    tpm.answers.store(false, Ordering::SeqCst);
    number(&bed, &region, "cd");
    bed.ca
        .revoke(&edge, pki::Reason::KeyCompromise, NOW)
        .unwrap();
    for _ in 0..2 {
        let said = tls.look();
        assert!(matches!(said, Err(TlsError::Tpm(_))), "{said:?}");
    }
    let revoked = tls.revocations().borrow().contains(&edge);
    assert!(revoked, "the list counts meanwhile, with the key in use");
    tpm.answers.store(true, Ordering::SeqCst);
    assert!(tls.look().unwrap());
    assert!(tls.revocations().borrow().contains(&edge));
    assert!(!tls.look().unwrap(), "it is taken once");
}
