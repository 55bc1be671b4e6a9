//! What the rules of the index were when a store kept them first.
use super::*;

/// Once the parameters are others this no longer holds: a store of before version 10 is answered when all is made anew.
#[test]
fn what_the_rules_were_when_they_were_kept_first_is_known() {
    assert_eq!(all_of(&rules(1)), FIRST);
}
