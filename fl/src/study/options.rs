//! What of a study's options excludes each other: strategies that see single updates, compression, adaptive clipping,
//! personalisation.
use super::{PrivacyUnit, Strategy, Study, Weights};

/// Says everything of them that does not go together, by key path.
pub(super) fn combinations(study: &Study, say: &mut impl FnMut(&str, &str)) {
    let unit = study.privacy.unit;
    let weighted = study.aggregation.weights == Weights::Records;
    let strategy = &study.training.strategy;
    if study.privacy.adaptive.is_some() && unit == PrivacyUnit::Record {
        say(
            "privacy.adaptive",
            "is for the unit `facility`: the clip follows the norms of facilities' updates",
        );
    }
    if matches!(strategy, Strategy::Median {} | Strategy::TrimmedMean { .. }) && weighted {
        say(
            "aggregation.weights",
            "is `equal` where a strategy leaves updates out: a median has no weights",
        );
    }
    if matches!(strategy, Strategy::Scaffold { .. }) {
        if study.training.steps.is_none() {
            say(
                "training.steps",
                "is needed for `scaffold`: a control is the mean gradient of a number of steps that is the same everywhere",
            );
        }
        if unit == PrivacyUnit::Record {
            say(
                "training.strategy.kind",
                "`scaffold` keeps a control of a site's own records from round to round, which the noise of a round does not cover",
            );
        }
    }
    if study.aggregation.compression.is_some() {
        compression(study, weighted, say);
    }
    if study.personalisation.is_some() {
        if unit != PrivacyUnit::None {
            say(
                "personalisation",
                "tells how good models are that were tuned on a site's own records without noise, which privacy hides",
            );
        }
        if study.model.is_survival() {
            say("personalisation", "is for models with a binary label");
        }
    }
}

fn compression(study: &Study, weighted: bool, say: &mut impl FnMut(&str, &str)) {
    let mut refused = |message: &str| say("aggregation.compression", message);
    if study.privacy.unit == PrivacyUnit::Facility {
        refused(
            "is too coarse for the noise of the unit `facility`, which is added in the same numbers",
        );
    }
    if weighted {
        refused("has no number for a weight: `aggregation.weights` is `equal`");
    }
    if study.vectors() > 1 {
        refused("is for one vector, and `scaffold` sends two");
    }
    if study.training.strategy.sees_single_updates() {
        refused(
            "is for strategies that sum: a single coarse update says little of a median or a norm",
        );
    }
}
