//! What a job keeps: what was asked for, and how far it is.
use super::{
    First, Job,
    files::{ASKED, DONE, Folder},
};
use crate::store::{FhirId, ResourceType, Whose};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::io;

/// What was asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Asked {
    /// Whose job it is: the name of a registered client.
    pub owner: String,
    /// The URL of the request.
    pub request: String,
    /// When it was asked for, ms since 1970.
    pub made: i64,
    /// The commit at which everything is exported.
    pub until: i64,
    /// What was stored in later commits alone; 0 for everything.
    pub after_commit: i64,
    /// What was stored then, ms since 1970, or later.
    pub since: Option<i64>,
    /// Whether only what is new is asked for, so that what was deleted is told.
    pub is_new: bool,
    /// The instant of that commit, as the client is told.
    pub transaction_time: String,
    /// The marks of the client when it asked; none where instants are true ones.
    pub marks: Option<String>,
    /// Whose resources.
    pub of: Of,
    /// The types, by name.
    pub parts: Vec<Part>,
    /// What is imported; nothing where the job is an export.
    pub import: Option<Vec<Incoming>>,
}

/// A file of lines that are imported.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Incoming {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// How many bytes of it are read.
    pub bytes: u64,
}

/// How far an import is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Imported {
    /// The position of the file in hand.
    pub file: usize,
    /// The bytes of it that are read.
    pub offset: u64,
    /// The lines of it that are read.
    pub line: u64,
    /// The lines of the files before.
    pub lines: u64,
    /// The lines that are stored.
    pub stored: u64,
}

/// Whose resources are exported.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Of {
    /// Everybody's.
    Everybody,
    /// Those in the compartment of any patient.
    AnyPatient,
    /// Those in the compartments of these.
    Patients(Vec<String>),
}

impl Of {
    /// The same for the store.
    pub fn whose(&self) -> Whose {
        match self {
            Self::Everybody => Whose::Everybody,
            Self::AnyPatient => Whose::AnyPatient,
            Self::Patients(ids) => Whose::Of(ids.iter().filter_map(|id| id.parse().ok()).collect()),
        }
    }
}

/// A type that is exported.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Part {
    /// Its name.
    pub kind: String,
    /// What the scopes of the token were over, any of it; everything when there is nothing.
    pub only: Vec<String>,
    /// What was asked for of it (`_typeFilter`), any of it; everything when there is nothing.
    pub filters: Vec<String>,
    /// Whether the type was named (`_type`): the server's own AuditEvents are in no export else.
    #[serde(default)]
    pub named: bool,
}

/// How far it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Done {
    /// The position of the type in hand.
    pub part: usize,
    /// Whether what was deleted of it is in hand.
    pub deleted: bool,
    /// The last id that was looked at.
    pub after: Option<String>,
    /// What is written.
    pub files: Vec<Written>,
    /// Of an import.
    pub import: Imported,
    /// When it ended, ms since 1970.
    pub ended: Option<i64>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

/// One file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Its name.
    pub name: String,
    /// The type of what is in it, or was deleted.
    pub kind: String,
    /// In which list of the manifest it is.
    pub list: List,
    /// How many bytes of it count.
    pub bytes: u64,
    /// How many lines.
    pub count: u64,
}

/// A list of the manifest.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum List {
    /// Resources.
    Output,
    /// What was deleted.
    Deleted,
    /// What is to be said beside.
    Outcome,
}

impl Done {
    /// The type of the file, and which list; none behind the last type.
    pub fn place(&self, asked: &Asked) -> Option<(ResourceType, Option<FhirId>)> {
        let part = asked.parts.get(self.part)?;
        let after = self.after.as_ref().and_then(|id| id.parse().ok());
        Some((ResourceType::parse(&part.kind)?, after))
    }

    /// How many resources are written.
    pub fn resources(&self) -> u64 {
        let output = self.files.iter().filter(|file| file.list == List::Output);
        output.map(|file| file.count).sum()
    }
}

impl Job {
    /// Makes the folder of a job: there as a whole when this returns.
    pub(super) fn make(folder: Folder, asked: Asked, first: Vec<First>) -> io::Result<Self> {
        storage::file::private_dir(folder.dir())?;
        let mut done = Done::default();
        for First {
            name,
            text,
            is_told,
        } in first
        {
            folder.put(&name, &text)?;
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            let file = Written {
                name,
                kind: "OperationOutcome".to_owned(),
                list: List::Outcome,
                bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
                count: u64::try_from(lines).unwrap_or(u64::MAX),
            };
            done.files.extend(is_told.then_some(file));
        }
        folder.keep(DONE, &done)?;
        // With this file there is a job.
        folder.keep(ASKED, &asked)?;
        storage::file::sync_parent(folder.dir())?;
        Ok(Self::of(folder, asked, done))
    }

    /// What was kept of a job; none when it never began, or cannot be read.
    pub(super) fn load(folder: &Folder) -> Option<Self> {
        let asked: Asked = folder.kept(ASKED)?;
        let done: Done = folder.kept(DONE)?;
        Some(Self::of(folder.clone(), asked, done))
    }

    fn of(folder: Folder, asked: Asked, done: Done) -> Self {
        Self {
            asked,
            folder,
            done: Mutex::new(done),
            changing: Mutex::default(),
            faults: Mutex::new(0),
        }
    }
}
