//! What an MQTT device answers on its topic `…/command/result`, signed by the key of its certificate. It is acknowledged
//! once it is durable; what is not the device's answer to a command of its own is refused for ever.
use super::{
    Control,
    dispatch::end_passed,
    report::{self, By},
    rows::Row,
};
use commands::{Answer, Reason, State};
use federation::identity::public_key_of;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use std::sync::Arc;
use store::{Commit, Store, StoreError};
use types::DeviceId;

/// Takes in what devices answer.
#[derive(Clone)]
pub(crate) struct Results {
    pub(crate) store: Store,
    pub(crate) control: Arc<Control>,
}

/// Why an answer is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It is not an answer, or not signed by the device that sends it.
    Wrong,
    /// The store does not take it now.
    Later,
}

impl Results {
    /// Takes an answer of a device in, which showed this certificate (DER).
    pub(crate) async fn take(
        &self,
        device: &DeviceId,
        certificate: &[u8],
        message: &[u8],
    ) -> Result<(), NoAnswer> {
        let (answer, signature) = Answer::from_json(message).map_err(|_| NoAnswer::Wrong)?;
        if !signed_by_holder(certificate, &answer.encode(), &signature) {
            metrics::counter!("medmesh_command_answers_refused_total", "reason" => Reason::AnswerForged.as_str())
                .increment(1);
            return Err(NoAnswer::Wrong);
        }
        let (control, device) = (Arc::clone(&self.control), device.clone());
        let step = move |commit: &mut Commit<'_, '_>| settle(&control, commit, &device, &answer);
        let known = self
            .store
            .in_commit(step)
            .await
            .map_err(|_| NoAnswer::Later)?;
        self.control.woken.notify_one();
        if known { Ok(()) } else { Err(NoAnswer::Wrong) }
    }
}

/// Whether the holder of a certificate (DER, P-256) signed a message (ECDSA with SHA-256, ASN.1).
fn signed_by_holder(certificate: &[u8], message: &[u8], signature: &[u8]) -> bool {
    public_key_of(certificate).is_some_and(|key| {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        key.verify(message, signature).is_ok()
    })
}

/// What the device says stands, also after the facility has given the command up. Says whether it was handed the command.
fn settle(
    control: &Control,
    commit: &mut Commit<'_, '_>,
    device: &DeviceId,
    answer: &Answer,
) -> Result<bool, StoreError> {
    let Some(mut row) = Row::find(commit.tx(), answer.command)? else {
        return Ok(false);
    };
    let command = row.signed.command().clone();
    let is_of_it = command.device == answer.device && command.sequence == answer.sequence;
    if row.device != *device || !is_of_it || !row.begun {
        return Ok(false);
    }
    if !row.state.may_become(answer.state) {
        return Ok(true);
    }
    (row.state, row.reason) = (answer.state, answer.reason);
    row.put(commit.tx())?;
    report::step(commit, &row.signed, (row.state, row.reason), By::Device)?;
    end_passed(commit, device, command.sequence)?;
    if answer.state == State::Acknowledged {
        report::property(commit, control, device, &command)?;
    }
    Ok(true)
}
