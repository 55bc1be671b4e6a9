//! Studies whose model fits no parcel: the model and the sums of regions are blobs, and the next model is made of their files,
//! outside of any commit.
//!
//! Everything that a study needs has the name of its round, so that what a round leaves behind is collected together.
use super::{Studies, find, go_on, running};
use federation::{
    blobs::{self, Descriptor, Digest, PutIn},
    db::DbError,
    ledger::Commit,
    port::{PortError, PortErrorKind, Verdict},
    reason,
};
use fl::{
    course::Course,
    large::{Part, Stepping, Vector, model_bytes},
    order::Release,
    wire,
};
use messages::StudyRelease;
use prost::Message as _;
use std::{fs::File, io, num::NonZeroUsize, thread};
use types::{Name, Place};

pub(super) const fn descriptor(vector: Vector) -> Descriptor {
    Descriptor {
        digest: Digest::from_bytes(vector.sha256),
        size: vector.bytes,
    }
}

pub(super) const fn vector(descriptor: Descriptor) -> Vector {
    Vector {
        sha256: *descriptor.digest.as_bytes(),
        bytes: descriptor.size,
    }
}

fn of_study(id: &Name) -> String {
    format!("study/{id}/")
}

/// What everything of a round is called by.
fn of_round(course: &Course) -> String {
    let (id, round, attempt) = (course.id(), course.round(), course.attempt());
    format!("study/{id}/{round}/{attempt}")
}

/// What a study needs is kept, and nothing else of it.
///
/// # Errors
/// [`DbError`].
pub(super) fn hold(commit: &Commit<'_>, course: &Course) -> Result<(), DbError> {
    let held: Vec<_> = course.holds().into_iter().map(descriptor).collect();
    if held.is_empty() {
        return Ok(());
    }
    let name = of_round(course);
    blobs::refer_to(commit.tx(), &held, &name)?;
    blobs::release_others(commit.tx(), &of_study(course.id()), Some(&name))
}

/// A release whose sum is a blob is kept until that is whole, where the study waits for it; none where it does not.
///
/// # Errors
/// [`DbError`].
pub(super) fn kept(
    commit: &Commit<'_>,
    course: &Course,
    (from, release): (&Place, &Release),
    body: &[u8],
) -> Result<Option<Verdict>, DbError> {
    let region = from.region();
    let Some(sum) = region.and_then(|region| course.awaits(region, release)) else {
        return Ok(None);
    };
    let (sum, name) = (descriptor(sum), of_round(course));
    match blobs::want(commit.tx(), sum, from, &name) {
        Err(DbError::Full) => {
            let reason = reason::NO_SPACE;
            return Ok(Some(Verdict::Deferred { reason }));
        }
        wanted => wanted?,
    }
    blobs::keep_message(commit.tx(), sum.digest, &name, from, body)?;
    Ok(Some(Verdict::Accepted { stored: 1 }))
}

/// A model and what is remembered beside it, as files that were put in.
struct Made {
    model: PutIn,
    moments: Option<PutIn>,
    within: Option<f64>,
}

impl Studies {
    /// Puts the model in that a study begins with, where it fits no parcel.
    ///
    /// # Errors
    /// [`PortError`] when it cannot be written; what is wrong with the study is nothing here.
    pub(super) async fn first(&self, text: String) -> Result<Option<PutIn>, PortError> {
        let files = self.blobs.files().clone();
        let put = move || match Course::first_model(&text) {
            Ok(Some(model)) => files.put_in(&model_bytes(&model)[..]).map(Some),
            Ok(None) | Err(_) => Ok(None),
        };
        let done = tokio::task::spawn_blocking(put).await;
        done.map_err(|error| failed(error.into()))?
            .map_err(|error| failed(error.into()))
    }

    /// Keeps the model that a study begins with, in the commit in which it begins.
    ///
    /// # Errors
    /// [`DbError`]; full when there is no room for it.
    pub(super) fn keep_first(
        commit: &Commit<'_>,
        course: &Course,
        first: Descriptor,
    ) -> Result<(), DbError> {
        blobs::keep(commit.tx(), first, &of_round(course))
    }

    /// Takes the releases whose sums are whole, and the steps that are due.
    pub(super) async fn look(&self) -> Result<(), PortError> {
        let (regions, key) = (self.regions().await?, self.key.clone());
        let come = move |commit: &mut Commit<'_>| {
            for come in blobs::come(commit.tx())? {
                let release = StudyRelease::decode(&come.body[..]).ok();
                let release = release.and_then(|message| wire::read_release(message).ok());
                let (Some(release), Some(from)) = (release, come.sender.region()) else {
                    continue;
                };
                let Some((mut course, _)) = find(commit.tx(), &release.key.study)? else {
                    continue;
                };
                if course.take(from, release, commit.now().0) {
                    go_on(commit, course, &regions, &key)?;
                }
            }
            let studies = running(commit.tx())?.into_iter();
            let due =
                studies.filter_map(|(course, _)| Some((course.id().clone(), course.stepping()?)));
            Ok(due.collect::<Vec<_>>())
        };
        let due = self.ledger.commit("releases that came", come).await?;
        for (id, due) in due {
            self.next_model(id, due).await?;
        }
        Ok(())
    }

    /// Makes the next model of files, and goes on with it.
    async fn next_model(&self, id: Name, due: Result<Stepping, String>) -> Result<(), PortError> {
        let (made, members, of) = match due {
            Err(why) => (Err(why), 0, None),
            Ok(stepping) => {
                let (members, of) = (stepping.members(), stepping.model);
                (self.made(stepping).await?, members, Some(of))
            }
        };
        let found = made.as_ref().map(|made| {
            let moments = made.moments.as_ref().map(|put| put.descriptor);
            (made.model.descriptor, moments, made.within)
        });
        let found = found.map_err(Clone::clone);
        let (regions, key) = (self.regions().await?, self.key.clone());
        let step = move |commit: &mut Commit<'_>| {
            let Some((mut course, _)) = find(commit.tx(), &id)? else {
                return Ok(());
            };
            // Cancelled meanwhile, or gone on.
            if !course.is_stepping() || of.is_some_and(|of| course.large_model() != Some(of)) {
                return Ok(());
            }
            if let Ok((model, moments, _)) = &found {
                let name = of_round(&course);
                for descriptor in std::iter::once(model).chain(moments) {
                    blobs::keep(commit.tx(), *descriptor, &name)?;
                }
            }
            let found =
                found.map(|(model, moments, within)| (vector(model), moments.map(vector), within));
            course.stepped(found, members, commit.now().0);
            go_on(commit, course, &regions, &key).map(drop)
        };
        self.ledger.commit("step of a study", step).await?;
        drop(made);
        self.blobs.stir();
        self.blobs.sweep().await.map(drop)
    }

    /// The next model and what is remembered beside it, or why there is none.
    async fn made(&self, stepping: Stepping) -> Result<Result<Made, String>, PortError> {
        let files = self.blobs.files().clone();
        let work = move || {
            let open = |vector: &Vector| files.reader(descriptor(*vector).digest);
            let sums = || -> io::Result<Vec<File>> {
                stepping.sums.iter().map(|(_, sum, _)| open(sum)).collect()
            };
            let before = || -> io::Result<(File, Option<File>)> {
                let moments = stepping.moments.as_ref().map(open).transpose()?;
                Ok((open(&stepping.model)?, moments))
            };
            let looked = match stepping.look(sums()?) {
                Ok(looked) => looked,
                Err(why) => return Ok(Err(why)),
            };
            let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let model = stepping.step(looked, Part::Model, sums()?, before()?, threads);
            let model = files.put_in(model)?;
            let moments = match stepping.remembers() {
                true => Some(stepping.step(looked, Part::Moments, sums()?, before()?, threads)),
                false => None,
            };
            Ok(Ok(Made {
                model,
                moments: moments.map(|step| files.put_in(step)).transpose()?,
                within: looked.within,
            }))
        };
        let made: io::Result<_> = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| failed(error.into()))?;
        match made {
            Ok(made) => Ok(made),
            Err(error) if is_of_the_numbers(error.kind()) => Ok(Err(error.to_string())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The model of a study that is done, read of its blob into `course` for whoever asks for it.
    ///
    /// # Errors
    /// [`PortError`].
    pub(super) async fn with_model(&self, mut course: Course) -> Result<Course, PortError> {
        let is_done = *course.standing() == fl::course::Standing::Done;
        let Some(model) = course.large_model().filter(|_| is_done) else {
            return Ok(course);
        };
        let files = self.blobs.files().clone();
        let read = move || {
            course.put_model(files.reader(descriptor(model).digest)?)?;
            Ok(course)
        };
        let done: io::Result<_> = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| failed(error.into()))?;
        done.map_err(|error| failed(error.into()))
    }
}

/// Whether what is wrong will be wrong the next time too.
const fn is_of_the_numbers(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> PortError {
    PortError {
        kind: PortErrorKind::Unavailable,
        op: "files of a study",
        source: Some(source),
    }
}
