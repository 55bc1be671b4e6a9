//! What a facility says to a study: it works out itself what the study comes to, and objects to everything that it does
//! not allow. It believes the coordinator nothing that it can compute.
use crate::{
    ledger::{Ledger, NotDebited},
    objection::Objection,
    order::{Aim, RoundOrder},
    study::{Model, Plan, Study},
};
use serde::{Deserialize, Serialize};
use types::{Jurisdiction, Place};

/// What a facility allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// What may be learnt from: names of tables, or `TABLE.COLUMN`, and `*` for every table; `readings` for all that is
    /// known of stays, or codes of readings and names of facts.
    pub data: Vec<String>,
    /// Whose law an aggregator may stand under.
    pub jurisdictions: Vec<Jurisdiction>,
    /// The fewest records of its own from which it lets anything be learnt.
    pub minimum_records: u32,
    /// The fewest facilities in whose sum it takes part.
    pub minimum_participants: u16,
    /// Whether its updates may be seen one by one.
    pub single_updates: bool,
    /// Whether it takes part in studies that promise no privacy.
    pub without_privacy: bool,
    /// Whether it may be told how good a model is on the records that are kept from training: figures of this facility,
    /// and counts of scores in the sum of all. No ε covers them.
    #[serde(default)]
    pub judging: bool,
    /// Models that may be learnt: kinds such as `logistic`, or `sha256:` and the digest of a shape, as a plan says it
    /// ([`Plan::model_sha256`]); `*` for every one.
    #[serde(default = "Allowance::every_model")]
    pub models: Vec<String>,
    /// Code that may train here ([`crate::code`]), by its digest; this node's own whatever it is when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<String>,
}

impl Allowance {
    /// The name by which all readings of stays are allowed.
    pub const READINGS: &str = "readings";

    /// What is allowed where no model is named.
    #[must_use]
    pub fn every_model() -> Vec<String> {
        vec!["*".into()]
    }
}

/// What a coordinator offers: the study, and what it says that it comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer<'a> {
    /// The study.
    pub study: &'a Study,
    /// What it comes to, as the coordinator says.
    pub plan: &'a Plan,
    /// Where updates are summed, as the coordinator's certificate says.
    pub aggregator: &'a Place,
    /// Rounds of training that are to come, with the one that is offered: what they spend is not debited yet.
    pub rounds_left: u32,
}

/// Where a facility stands that is asked to take part.
#[derive(Clone, Copy, Debug)]
pub struct Standpoint<'a> {
    /// Who sums, as its certificate says.
    pub aggregator: &'a Place,
    /// The global node's Ed25519 public key; orders are not checked by it while the facility's configuration names none.
    pub key: Option<&'a [u8]>,
    /// The code that trains here ([`crate::code::digest`]).
    pub code: &'a str,
    /// What the facility allows.
    pub allowance: &'a Allowance,
    /// What it has spent.
    pub ledger: &'a Ledger,
    /// How many records it has for the study ([`crate::features::Prepared::counted`]); none while that is not known, and
    /// everything else is looked at.
    pub records: Option<u32>,
    /// Whether it has answered the same round before.
    pub answered: bool,
}

/// Everything that a facility objects to in an order, each part of which the coordinator may have made up.
#[must_use]
pub fn objections_to(order: &RoundOrder, here: &Standpoint<'_>) -> Vec<Objection> {
    if here.key.is_some_and(|key| !order.is_signed_by(key)) {
        return vec![Objection::Signature];
    }
    let (study, plan) = match order.read() {
        Ok(read) => read,
        Err(why) => return vec![Objection::Plan(why)],
    };
    let mut found = Vec::new();
    found.extend(here.answered.then_some(Objection::Answered));
    if let Some(code) = order.code.as_deref().filter(|code| *code != here.code) {
        found.push(Objection::Code(format!(
            "the order is for `{code}`, and `{}` trains here",
            here.code
        )));
    }
    let rounds_left = match order.aim {
        Aim::Judge => 0,
        Aim::Train => (study.training.rounds + 1).saturating_sub(order.key.round),
    };
    let offer = Offer {
        study: &study,
        plan: &plan,
        aggregator: here.aggregator,
        rounds_left,
    };
    let allowed = &here.allowance.code;
    if !allowed.is_empty() && !allowed.iter().any(|code| code == here.code) {
        let own = format!(
            "`{}` trains here, and the facility does not allow it",
            here.code
        );
        found.push(Objection::Code(own));
    }
    let records = here.records.unwrap_or(u32::MAX);
    found.extend(objections(&offer, here.allowance, here.ledger, records));
    found
}

/// Everything that a facility with `records` records for the study objects to; nothing when it may take part.
#[must_use]
pub fn objections(
    offer: &Offer,
    allowance: &Allowance,
    ledger: &Ledger,
    records: u32,
) -> Vec<Objection> {
    let study = offer.study;
    let plan = match study.plan() {
        Ok(plan) if &plan == offer.plan => plan,
        Ok(_) => {
            return vec![Objection::Plan(
                "it comes to something else than is said".into(),
            )];
        }
        Err(problems) => {
            let first = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            return vec![Objection::Plan(first)];
        }
    };
    let mut found = data(study, allowance);
    if let Some(jurisdiction) = offer.aggregator.jurisdiction()
        && !allowance.jurisdictions.contains(&jurisdiction)
    {
        found.push(Objection::Jurisdiction(jurisdiction.to_string()));
    }
    if offer.aggregator.jurisdiction().is_none() {
        found.push(Objection::Jurisdiction("none".into()));
    }
    let least = allowance.minimum_records.max(study.data.minimum_records);
    if records < least {
        found.push(Objection::Records(format!(
            "fewer than the {least} that are needed"
        )));
    }
    let quorum = study.aggregation.quorum;
    if quorum < allowance.minimum_participants {
        let needed = allowance.minimum_participants;
        found.push(Objection::Participants(format!(
            "{quorum} of the {needed} that are needed"
        )));
    }
    if !study.aggregation.secure && !allowance.single_updates {
        found.push(Objection::SingleUpdates);
    }
    if !allowance.judging {
        found.push(Objection::Judging);
    }
    let few = study.judges_too_few();
    found.extend(few.map(|problem| Objection::Plan(problem.to_string())));
    let kind = kind(&study.model);
    let shape = format!("sha256:{}", plan.model_sha256);
    let named = |name: &String| name == "*" || name == kind || name == &shape;
    if !allowance.models.iter().any(named) {
        found.push(Objection::Model(format!("{kind}, {shape}")));
    }
    found.extend(budget(offer, &plan, allowance, ledger));
    found
}

/// The kind of a model, as a study has it.
const fn kind(model: &Model) -> &'static str {
    match model {
        Model::Logistic {} => "logistic",
        Model::Mlp { .. } => "mlp",
        Model::Gru { .. } => "gru",
        Model::Tcn { .. } => "tcn",
        Model::Cox {} => "cox",
    }
}

fn data(study: &Study, allowance: &Allowance) -> Vec<Objection> {
    let table = study.data.table.as_ref().map(types::Name::as_str);
    let refused = |name: &String| !allowance.data.contains(name);
    // Of windows each is a column of its own; of a feature the first is named that is not allowed.
    let asked = |feature: &crate::study::Feature| match (table, feature.code) {
        (Some(table), _) => {
            let windows = 0..study.data.windows();
            let mut columns = windows.flat_map(|at| study.data.columns_of(feature, at));
            columns.find_map(|column| Some(format!("{table}.{column}")).filter(refused))
        }
        (None, Some(code)) => Some(code.to_string()),
        (None, None) => Some(feature.name.clone()),
    };
    let mut wanted: Vec<_> = study.data.features.iter().filter_map(asked).collect();
    let label = study.data.label.names().into_iter();
    wanted.extend(label.map(|name| match table {
        Some(table) => format!("{table}.{name}"),
        None => name,
    }));
    // Figures of those whom a column names are figures of that column.
    let test = study.evaluation.test_column.iter().zip(table);
    wanted.extend(test.map(|(name, table)| format!("{table}.{name}")));
    // A whole table may be allowed by its name, and all readings by theirs.
    let mut names = allowance.data.iter();
    let whole = names.any(|name| match table {
        Some(table) => name == table || name == "*",
        None => name == Allowance::READINGS,
    });
    let refused = |name: &String| !whole && refused(name);
    wanted
        .into_iter()
        .filter(refused)
        .map(Objection::Data)
        .collect()
}

fn budget(offer: &Offer, plan: &Plan, allowance: &Allowance, ledger: &Ledger) -> Option<Objection> {
    let study = offer.study;
    let Some(spend) = plan.spend else {
        return (!allowance.without_privacy).then_some(Objection::NoPrivacy);
    };
    let event = match spend.event(study, offer.rounds_left) {
        Ok(event) => event?,
        Err(error) => return Some(Objection::Budget(error.to_string())),
    };
    if ledger.is_doubted() {
        return Some(Objection::Budget(NotDebited::Doubted.to_string()));
    }
    let (after, allowed) = (ledger.after(event), ledger.budget().epsilon);
    (after > allowed).then(|| {
        Objection::Budget(format!(
            "epsilon would be {after:.4}, and {allowed:.4} is allowed"
        ))
    })
}

#[cfg(test)]
#[path = "consent_tests.rs"]
mod tests;
