//! A command comes down: who signed it, whether the device may be told, and the mark that makes it come once, in the
//! commit that takes the parcel in.
use super::{
    Control,
    report::{self, By},
    rows::{self, Row},
};
use commands::{Acceptor, Reason, Signed, State, withdrawal};
use ed25519_dalek::VerifyingKey;
use federation::{
    audit::{Decision, Entry},
    envelope::Intact,
    port::Verdict,
    reason,
    tls::ReloadingTls,
};
use messages::DeviceCommand;
use prost::Message;
use std::sync::Arc;
use store::{Commit, Handler, StoreError};
use types::{DeviceId, Place};

/// Commands of one device that have not ended at most; one more is refused. It is twice what a region leaves open, which counts
/// those out that it has given up and of which the facility has not heard.
pub(super) const MAX_OPEN: u32 = 128;
/// So many more may be open where the next is of safety.
pub(super) const SAFETY_OPEN: u32 = 32;

/// Takes in commands.
pub(crate) struct TakesCommands {
    pub(crate) control: Arc<Control>,
    pub(crate) tls: Arc<ReloadingTls>,
}

impl Handler for TakesCommands {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        from: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        let malformed = Ok(Verdict::Quarantined {
            reason: reason::MALFORMED,
        });
        let Ok(body) = DeviceCommand::decode(&parcel.body[..]) else {
            return malformed;
        };
        let Ok(signed) = Signed::from_bytes(&body.signed) else {
            return malformed;
        };
        let key = self.tls.signing_key_of(from, &body.certificate);
        take(&self.control, commit, &signed, key)?;
        Ok(Verdict::Accepted { stored: 1 })
    }

    fn committed(&self) {
        self.control.woken.notify_one();
    }
}

/// Judges a command and keeps what follows; `key` is the region's, none when the certificate beside the command is not its.
pub(super) fn take(
    control: &Control,
    commit: &mut Commit<'_, '_>,
    signed: &Signed,
    key: Option<VerifyingKey>,
) -> Result<(), StoreError> {
    let command = signed.command();
    // It was shipped again, since one of us was put back: the region hears where it is.
    if let Some(row) = Row::find(commit.tx(), command.id)?
        && row.signed == *signed
    {
        return report::step(commit, signed, (row.state, row.reason), By::Edge);
    }
    let device = rows::device_of(commit.tx(), command.device)?;
    let is_withdrawal = withdrawal::is_one(command);
    let of_withdrawals = withdrawal::table();
    let judged = match (&device, key) {
        (_, None) => Err(Reason::Forged),
        (None, Some(key)) if !signed.is_by(&key) => Err(Reason::Forged),
        (None, Some(_)) => Err(Reason::UnknownDevice),
        (Some(device), Some(key)) => match control.table(device) {
            None => Err(Reason::UnknownDevice),
            Some(table) => {
                let table = if is_withdrawal {
                    &of_withdrawals
                } else {
                    table
                };
                let facility = commit.place().clone();
                let acceptor = Acceptor {
                    facility: &facility,
                    device: command.device,
                    key: &key,
                    table,
                    has: None,
                };
                let mark = rows::mark(commit.tx(), device)?;
                acceptor.judge(signed, mark, commit.now().real)
            }
        },
    };
    match (judged, device) {
        (Ok(mark), Some(device)) => {
            rows::keep_mark(commit.tx(), &device, mark)?;
            if is_withdrawal {
                return take_back(control, commit, &device, signed);
            }
            keep(control, commit, device, signed)
        }
        // Whoever forged it learns nothing, and no command of the region is ended by it.
        (Err(reason @ (Reason::Forged | Reason::Foreign)), _) => {
            let entry = Entry::of_command(
                commit.now().real,
                (Decision::CommandRefused, reason.as_str()),
                (&commit.region().to_string(), commit.place()),
                command.name.as_str(),
                command.id,
                Some(&signed.to_bytes()),
            );
            commit.note(&[entry])
        }
        (judged, _) => {
            let reason = judged.err().unwrap_or(Reason::UnknownDevice);
            report::step(commit, signed, (State::Refused, Some(reason)), By::Edge)
        }
    }
}

/// Keeps a command until it has ended, if there is room. One that is refused has taken its number all the same: it is not taken
/// in when it comes again.
fn keep(
    control: &Control,
    commit: &mut Commit<'_, '_>,
    device: DeviceId,
    signed: &Signed,
) -> Result<(), StoreError> {
    let may_be_open = match control.is_of_safety(&device, signed.command()) {
        true => MAX_OPEN + SAFETY_OPEN,
        false => MAX_OPEN,
    };
    if Row::count_open(commit.tx(), &device)? >= may_be_open {
        let refused = (State::Refused, Some(Reason::TooManyOpen));
        return report::step(commit, signed, refused, By::Edge);
    }
    let row = Row {
        device,
        signed: signed.clone(),
        state: State::Delivered,
        reason: None,
        begun: false,
    };
    row.put(commit.tx())?;
    rows::forget(commit.tx())?;
    report::step(commit, signed, (State::Delivered, None), By::Edge)
}

/// The region takes a command back: it ends, unless the device was told already. One that is under way to a Modbus device ends
/// when it did not reach it.
fn take_back(
    control: &Control,
    commit: &mut Commit<'_, '_>,
    device: &DeviceId,
    signed: &Signed,
) -> Result<(), StoreError> {
    let sequence = withdrawal::of(signed.command());
    let open = Row::open_of(commit.tx(), device)?;
    let is_meant = |row: &Row| Some(row.signed.command().sequence) == sequence;
    let Some(mut row) = open.into_iter().find(is_meant) else {
        return Ok(());
    };
    if row.begun && !control.is_modbus(device) {
        return Ok(());
    }
    row.reason = Some(Reason::Superseded);
    if row.begun {
        return row.put(commit.tx());
    }
    row.state = State::Refused;
    row.put(commit.tx())?;
    report::step(commit, &row.signed, (row.state, row.reason), By::Edge)
}
