//! Messages of devices that cannot be understood, kept as they came.
use super::{StoreError, apply::Apply, steps::Kept};
use bytes::Bytes;
use rusqlite::params;
use types::DeviceId;

/// Messages that cannot be understood which are kept of one device, so that a device which sends nothing else cannot
/// fill the disk. They were acknowledged, so none makes room for another: one more is not taken in, and its device
/// keeps it.
const MAX_UNREADABLE_ROWS: i64 = 1_000;

/// Messages of a device that a new one is compared with: as many as may be under way without an answer.
const UNREADABLE_COMPARED: i64 = 16;

impl Apply<'_> {
    /// Keeps a message that could not be understood, as long as a routine sample would be kept and its device has not
    /// too many of them: whether it was. The same message again needs no more room.
    pub(super) fn quarantine(
        &mut self,
        device: &DeviceId,
        reason: &str,
        message: &Bytes,
    ) -> Result<Kept, StoreError> {
        if !self.has_routine_room() {
            self.tally.full += 1;
            return Ok(Kept::Full);
        }
        if self.knows_unreadable(device, reason, message)? {
            return Ok(Kept::Durably);
        }
        let rows: i64 = self
            .tx
            .prepare_cached("SELECT count(*) FROM unreadable WHERE device = ?1")?
            .query_row([device.as_str()], |row| row.get(0))?;
        if rows >= MAX_UNREADABLE_ROWS {
            self.tally.unreadable_refused += 1;
            return Ok(Kept::Full);
        }
        self.used += message.len() as u64;
        self.tx
            .prepare_cached(
                "INSERT INTO unreadable (device, reason, at_ms, message) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                device.as_str(),
                reason,
                self.now.mesh.0,
                &message[..]
            ])?;
        Ok(Kept::Durably)
    }

    /// Whether the last messages of a device that are kept hold this one: a device that was not answered sends it again.
    fn knows_unreadable(
        &self,
        device: &DeviceId,
        reason: &str,
        message: &Bytes,
    ) -> Result<bool, StoreError> {
        let known = self
            .tx
            .prepare_cached(
                "SELECT 1 FROM (SELECT reason, message FROM unreadable WHERE device = ?1 ORDER BY row DESC LIMIT ?2)
                 WHERE reason = ?3 AND message = ?4",
            )?
            .exists(params![device.as_str(), UNREADABLE_COMPARED, reason, &message[..]])?;
        Ok(known)
    }
}
