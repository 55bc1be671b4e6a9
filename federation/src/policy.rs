//! Cedar policies on top of the floor: what a jurisdiction's data-protection officer reads, and may tighten.
//!
//! `federation/policies/` holds one file per jurisdiction, one for all, and the schema with every word they may use.
//! They are built in; an operator's directory replaces the files, never the schema and never the floor. Policies are
//! validated strictly against the schema when they are loaded. Cedar's `Allow` alone is never enough: [`Rules::decide`]
//! asks the floor first, and a policy that cannot be evaluated is a refusal.

use crate::floor::{self, Refusal};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy,
    PolicyId, PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io, str::FromStr as _};
use types::{DataClass, Place, Purpose};

/// Built-in policies: file name and text.
const BUILTIN: [(&str, &str); 4] = [
    ("common.cedar", include_str!("../policies/common.cedar")),
    ("us.cedar", include_str!("../policies/us.cedar")),
    ("eu.cedar", include_str!("../policies/eu.cedar")),
    ("apac.cedar", include_str!("../policies/apac.cedar")),
];
const SCHEMA: &str = include_str!("../policies/medmesh.cedarschema");

/// Policy files in one directory: one per jurisdiction is 4, so this is a directory of something else.
pub const MAX_FILES: usize = 64;
/// The largest policy file, in bytes: a person is to read it.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Decisions remembered. A node asks the same few questions for every parcel; a peer that asks many others only
/// makes it ask Cedar again.
const MAX_REMEMBERED: usize = 4_096;

/// Why policies were not loaded. The node must not start.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read policies at {path}: {source}")]
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory has no `.cedar` file: nothing would be permitted, and surely that was not meant.
    #[error(
        "no .cedar file in {path}: name a directory of policies, or leave it out for the built-in ones"
    )]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// More files, or a larger one, than a person would read.
    #[error(
        "{path}: more than {MAX_FILES} policy files, or one larger than {MAX_FILE_BYTES} bytes"
    )]
    TooLarge {
        /// The directory or file.
        path: PathBuf,
    },
    /// A file is not Cedar, or uses a word that the schema does not have.
    #[error("{file}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong, in Cedar's words; policies hold no personal data.
        problem: String,
    },
}

/// The residency rules of a node: the floor and the Cedar policies on top of it.
pub struct Rules {
    policies: PolicySet,
    schema: Schema,
    authorizer: Authorizer,
    remembered: Mutex<HashMap<Question, Result<(), Refusal>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    class: DataClass,
    purpose: Purpose,
    from: Place,
    to: Place,
}

impl Rules {
    /// The built-in policies.
    ///
    /// # Errors
    /// [`PolicyError`] when a built-in file does not fit the schema, which a test rules out.
    pub fn builtin() -> Result<Self, PolicyError> {
        let files = BUILTIN.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Self::of_files(&files)
    }

    /// The policies of the operator's directory, or the built-in ones.
    ///
    /// # Errors
    /// [`PolicyError`] naming the file and the problem.
    pub fn load(directory: Option<&Path>) -> Result<Self, PolicyError> {
        match directory {
            None => Self::builtin(),
            Some(directory) => Self::of_files(&read_directory(directory)?),
        }
    }

    fn of_files(files: &[(String, String)]) -> Result<Self, PolicyError> {
        let schema = match Schema::from_cedarschema_str(SCHEMA) {
            Ok((schema, _)) => schema,
            Err(error) => return Err(invalid("medmesh.cedarschema", &error)),
        };
        let mut policies = PolicySet::new();
        for (name, text) in files {
            add_file(&mut policies, &schema, name, text)?;
        }
        Ok(Self {
            policies,
            schema,
            authorizer: Authorizer::new(),
            remembered: Mutex::new(HashMap::new()),
        })
    }

    /// Whether data of a class may go from one place to another for a purpose: the floor first, then the policies.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn decide(
        &self,
        class: DataClass,
        from: &Place,
        to: &Place,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        floor::decide(class, from, to, purpose)?;
        let question = Question {
            class,
            purpose,
            from: from.clone(),
            to: to.clone(),
        };
        if let Some(answer) = self.remembered.lock().get(&question) {
            return *answer;
        }
        let answer = self.ask(&question);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(question, answer);
        answer
    }

    fn ask(&self, question: &Question) -> Result<(), Refusal> {
        let (request, entities) = self.request(question).ok_or(Refusal::PolicyError)?;
        let response = self
            .authorizer
            .is_authorized(&request, &self.policies, &entities);
        // Cedar leaves out a policy that fails to evaluate: a `forbid` that failed would be a yes.
        if response.diagnostics().errors().next().is_some() {
            return Err(Refusal::PolicyError);
        }
        match response.decision() {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(Refusal::Policy),
        }
    }

    fn request(&self, question: &Question) -> Option<(Request, Entities)> {
        let (from, to) = (entity(&question.from)?, entity(&question.to)?);
        let class = RestrictedExpression::new_entity_uid(uid("Class", question.class.as_str())?);
        let context = Context::from_pairs([("class".to_owned(), class)]).ok()?;
        let request = Request::new(
            from.uid(),
            uid("Action", question.purpose.as_str())?,
            to.uid(),
            context,
            Some(&self.schema),
        )
        .ok()?;
        let entities = Entities::from_entities([from, to], Some(&self.schema)).ok()?;
        Some((request, entities))
    }
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind = EntityTypeName::from_str(kind).ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn entity(place: &Place) -> Option<Entity> {
    let jurisdiction = place.jurisdiction().map_or("none", |it| it.as_str());
    let text = |text: Option<&str>| RestrictedExpression::new_string(text.unwrap_or("").into());
    let attributes = HashMap::from([
        (
            "tier".to_owned(),
            RestrictedExpression::new_entity_uid(uid("Tier", place.tier().as_str())?),
        ),
        (
            "jurisdiction".to_owned(),
            RestrictedExpression::new_entity_uid(uid("Jurisdiction", jurisdiction)?),
        ),
        (
            "region".to_owned(),
            text(place.region().map(|it| it.as_str())),
        ),
        (
            "facility".to_owned(),
            text(place.facility().map(|it| it.as_str())),
        ),
    ]);
    Entity::new(
        uid("Place", &place.to_string())?,
        attributes,
        HashSet::new(),
    )
    .ok()
}

fn invalid(file: &str, problem: &dyn std::fmt::Display) -> PolicyError {
    PolicyError::Invalid {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}

/// Parses one file, names its policies after the file, and validates them strictly.
fn add_file(
    policies: &mut PolicySet,
    schema: &Schema,
    name: &str,
    text: &str,
) -> Result<(), PolicyError> {
    let parsed = PolicySet::from_str(text).map_err(|error| invalid(name, &error))?;
    let checked = Validator::new(schema.clone()).validate(&parsed, ValidationMode::Strict);
    if let Some(error) = checked.validation_errors().next() {
        return Err(invalid(name, error));
    }
    if parsed.templates().next().is_some() {
        return Err(invalid(name, &"templates are not used here"));
    }
    for policy in parsed.policies() {
        let id = PolicyId::new(format!(
            "{name}/{}",
            policy.annotation("id").unwrap_or(policy.id().as_ref())
        ));
        let policy: Policy = policy.new_id(id);
        policies
            .add(policy)
            .map_err(|error| invalid(name, &error))?;
    }
    Ok(())
}

fn read_directory(directory: &Path) -> Result<Vec<(String, String)>, PolicyError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyError::Unreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "cedar")
        {
            continue;
        }
        let size = fs::metadata(&path).map_err(unreadable(&path))?.len();
        if size > MAX_FILE_BYTES || files.len() == MAX_FILES {
            return Err(PolicyError::TooLarge { path });
        }
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        files.push((
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            text,
        ));
    }
    if files.is_empty() {
        return Err(PolicyError::Empty {
            path: directory.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    fn rules(text: &str) -> Result<Rules, PolicyError> {
        Rules::of_files(&[("test.cedar".to_owned(), text.to_owned())])
    }

    #[test]
    fn the_schema_knows_every_word_of_the_types() {
        let rules = Rules::builtin().unwrap();
        let places = [
            "edge/us/us/f1",
            "regional/eu/eu",
            "regional/apac/apac",
            "global",
        ]
        .map(place);
        for class in DataClass::ALL {
            for purpose in Purpose::ALL {
                for from in &places {
                    for to in &places {
                        let question = Question {
                            class,
                            purpose,
                            from: from.clone(),
                            to: to.clone(),
                        };
                        assert_ne!(
                            rules.ask(&question),
                            Err(Refusal::PolicyError),
                            "{class} {purpose} {from} {to}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_policy_that_permits_everything_does_not_loosen_the_floor() {
        let rules = rules("permit (principal, action, resource);").unwrap();
        let (edge, region) = (place("edge/eu/eu/eu-f1"), place("regional/us/us"));
        for class in [DataClass::Phi, DataClass::Pseudonymous] {
            assert!(rules.decide(class, &edge, &region, Purpose::Care).is_err());
        }
        let home = place("regional/eu/eu");
        assert_eq!(
            rules.decide(DataClass::Pseudonymous, &edge, &home, Purpose::Care),
            Ok(())
        );
    }

    #[test]
    fn a_policy_tightens_the_floor() {
        let (edge, region) = (place("edge/eu/eu/eu-f1"), place("regional/eu/eu"));
        let operations = |rules: &Rules| {
            rules.decide(DataClass::Pseudonymous, &edge, &region, Purpose::Operations)
        };
        assert_eq!(operations(&Rules::builtin().unwrap()), Err(Refusal::Policy));
        assert_eq!(
            operations(&rules("permit (principal, action, resource);").unwrap()),
            Ok(())
        );
    }

    #[test]
    fn what_no_policy_permits_is_refused() {
        let rules = rules("forbid (principal, action, resource);").unwrap();
        let (edge, region) = (place("edge/eu/eu/eu-f1"), place("regional/eu/eu"));
        let decided = rules.decide(
            DataClass::DeviceMetadata,
            &edge,
            &region,
            Purpose::Operations,
        );
        assert_eq!(decided, Err(Refusal::Policy));
    }

    #[test]
    fn a_misspelt_word_is_refused_when_the_policies_are_loaded() {
        for text in [
            "permit (principal, action, resource) when { context.clas == Class::\"policy\" };",
            "permit (principal, action, resource) when { context.class == Class::\"pseudonimous\" };",
            "permit (principal, action == Action::\"carre\", resource);",
            "permit (principal, action, resource) when { principal.jurisdiction == \"eu\" };",
            "permit (principal, action, resource) when { principal.tier == Tier::\"edgy\" };",
            "permit (principal, action, resource",
        ] {
            assert!(
                matches!(rules(text), Err(PolicyError::Invalid { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_directory_replaces_the_builtin_files_and_an_empty_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            Rules::load(Some(directory.path())),
            Err(PolicyError::Empty { .. })
        ));
        fs::write(
            directory.path().join("a.cedar"),
            "forbid (principal, action, resource);",
        )
        .unwrap();
        let rules = Rules::load(Some(directory.path())).unwrap();
        let (edge, region) = (place("edge/us/us/us-f1"), place("regional/us/us"));
        let decided = rules.decide(DataClass::Pseudonymous, &edge, &region, Purpose::Care);
        assert_eq!(decided, Err(Refusal::Policy));
        let absent = directory.path().join("absent");
        assert!(matches!(
            Rules::load(Some(&absent)),
            Err(PolicyError::Unreadable { .. })
        ));
    }
}
