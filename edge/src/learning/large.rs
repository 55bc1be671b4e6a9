//! Rounds whose model and update fit no parcel: the model is fetched as a blob once the facility takes part, and the masked
//! update goes up as one.
//!
//! What a round needs of blobs has its name, and is collected with the round's own row. A model and a masked update tell
//! nothing of a record, which is why they may lie in a file that is not encrypted; what is not masked has to fit a parcel
//! ([`fl::large`]).
use super::{Learner, Sent};
use federation::blobs::{self, Descriptor, Digest, PutIn};
use fl::{
    large::{Vector, to_bytes},
    member::MemberRound,
    order::{Aim, Answer, Ask, RoundKey, RoundOrder},
    site::Made,
};
use messages::StudyAnswer;
use rusqlite::Connection;
use std::sync::Arc;
use store::{Commit, StoreError, StoreErrorKind};
use types::Purpose;

const fn descriptor(vector: Vector) -> Descriptor {
    Descriptor {
        digest: Digest::from_bytes(vector.sha256),
        size: vector.bytes,
    }
}

/// What a round needs is called by. No name begins with another one.
fn name(key: &RoundKey) -> String {
    format!("study/{}/{}/{}/", key.study, key.round, key.attempt)
}

/// Wants the model of a round in which the facility takes part; false when there is no room for it.
///
/// # Errors
/// As any write.
pub(super) fn want(commit: &mut Commit<'_, '_>, order: &RoundOrder) -> Result<bool, StoreError> {
    let Some(model) = order.large else {
        return Ok(true);
    };
    match commit.want(descriptor(model), &name(&order.key)) {
        Err(error) if error.kind == StoreErrorKind::Full => Ok(false),
        wanted => wanted.map(|()| true),
    }
}

/// Collects what rounds needed that are not known here any more.
///
/// # Errors
/// As any write.
pub(super) fn collect(tx: &Connection) -> Result<(), StoreError> {
    let mut query = tx.prepare_cached(
        "SELECT DISTINCT name FROM blob_ref WHERE name GLOB 'study/*' AND name NOT IN (
           SELECT 'study/' || study || '/' || round || '/' || attempt || '/' FROM study_member)",
    )?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    for name in names {
        blobs::release_others(tx, &name, None)?;
    }
    Ok(())
}

/// An update that goes up as a blob: the file, and what the round is before and after it was masked.
pub(super) struct Masked {
    pub(super) before: MemberRound,
    pub(super) after: MemberRound,
    pub(super) answer: Answer,
    update: Descriptor,
}

impl Masked {
    /// Keeps the file for the region, in the commit that sends its descriptor.
    ///
    /// # Errors
    /// As any write.
    pub(super) fn offer(&self, commit: &mut Commit<'_, '_>) -> Result<(), StoreError> {
        let digest = self.update.digest;
        commit.keep(self.update, &name(&self.before.order().key))?;
        commit.grant::<StudyAnswer>(Purpose::Research, digest)
    }
}

impl Learner {
    /// The model of a round that is a blob: nothing inside while it is not all here. Of any other round there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn model(
        &self,
        order: &RoundOrder,
    ) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        let Some(model) = order.large else {
            return Ok(Some(None));
        };
        let digest = descriptor(model).digest;
        let whole = move |db: &Connection| Ok(blobs::is_whole(db, digest)?);
        if !self.store.read(whole).await? {
            self.blobs.stir();
            return Ok(None);
        }
        let files = Arc::clone(self.blobs.files());
        let read = move || {
            let path = files.path(digest)?.ok_or(std::io::ErrorKind::NotFound)?;
            std::fs::read(path)
        };
        let failed = || StoreError::new(StoreErrorKind::Unavailable, "read a model");
        let read = tokio::task::spawn_blocking(read).await;
        let bytes = read.map_err(|_| failed())?.map_err(|_| failed())?;
        Ok(Some(Some(bytes)))
    }

    /// What is sent of what a worker made. Where it is a blob, it is masked and put in here, outside of the commit that
    /// sends it: that one waits for nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) async fn sent(
        &self,
        ask: &Ask,
        before: MemberRound,
        mut made: Made,
    ) -> Result<(Result<Sent, String>, Option<PutIn>), StoreError> {
        let order = before.order();
        if order.large.is_none() || order.aim == Aim::Judge {
            return Ok((Ok(Sent::Here(Box::new(made))), None));
        }
        let (ask, files) = (ask.clone(), Arc::clone(self.blobs.files()));
        let mask = move || {
            let mut after = before.clone();
            let update = (std::mem::take(&mut made.numbers), made.told);
            let Some(mut answer) = after.answer(&ask, Some(update)) else {
                return Ok(None);
            };
            if !matches!(answer, Answer::Update { .. }) {
                // It cannot be masked, and the answer says why.
                return Ok(Some((Err(answer), None)));
            }
            let put = files.put_in(&to_bytes(&answer.take_numbers())[..])?;
            let update = put.descriptor;
            let answer = answer.with_large(Vector {
                sha256: *update.digest.as_bytes(),
                bytes: update.size,
            });
            let masked = Masked {
                before,
                after,
                answer,
                update,
            };
            std::io::Result::Ok(Some((Ok(masked), Some(put))))
        };
        let failed = || StoreError::new(StoreErrorKind::Unavailable, "put an update in");
        let done = tokio::task::spawn_blocking(mask).await;
        Ok(match done.map_err(|_| failed())?.map_err(|_| failed())? {
            Some((Ok(masked), put)) => (Ok(Sent::Apart(Box::new(masked))), put),
            Some((Err(Answer::Unable(why)), _)) => (Err(why), None),
            Some((Err(_), _)) | None => (Err("nothing can be sent".into()), None),
        })
    }
}
