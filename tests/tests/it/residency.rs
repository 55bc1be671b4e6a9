//! The residency table: every class, way and purpose, decided by floor and built-in policies, printed for reviewers.
//!
//! `UPDATE_GOLDEN=1 cargo test -p medmesh-tests residency` writes it anew; the difference is what a reviewer reads.
use federation::envelope::{Refusal, decide};
use federation::policy::Rules;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::{env, fs};
use types::{DataClass, Jurisdiction, Place, Purpose};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/residency.txt");

const HEAD: &str = "\
What may go where, and for what. Decided by federation/src/floor.rs and federation/policies; checked by the test
`residency`. Each line: the way; the jurisdictions it is said of (from, or from>to); one column for each purpose.
  yes         the floor allows it and the built-in policies permit it
  -           the floor refuses it: data of this class is not moved for this purpose
  TIGHTENED   the floor allows it, a built-in Cedar policy does not
  never       the floor refuses it for every purpose and jurisdiction, and why
";

/// Two regions for each jurisdiction, two facilities in the first and one in the second, and the global node.
fn places() -> Vec<Place> {
    let mut places = vec![Place::Global];
    for j in Jurisdiction::ALL {
        let texts = [
            format!("regional/{j}/{j}"),
            format!("regional/{j}/{j}-two"),
            format!("edge/{j}/{j}/{j}-f1"),
            format!("edge/{j}/{j}/{j}-f2"),
            format!("edge/{j}/{j}-two/{j}-f3"),
        ];
        places.extend(texts.map(|text| text.parse().unwrap()));
    }
    places
}

/// How two places stand to each other.
fn way(from: &Place, to: &Place) -> String {
    let tier = |place: &Place| match place {
        Place::Edge { .. } => "facility",
        Place::Regional { .. } => "region",
        Place::Global => "global",
    };
    let near = match (from.jurisdiction(), to.jurisdiction()) {
        _ if from == to => "itself",
        (None, _) | (_, None) => tier(to),
        (Some(a), Some(b)) if a != b => return format!("{} > {} abroad", tier(from), tier(to)),
        _ => match (to, from.region() == to.region()) {
            (Place::Regional { .. }, true) => "its region",
            (Place::Regional { .. }, false) => "sibling region",
            (_, true) if from.facility().is_some() => "facility of its region",
            (_, true) => "its facility",
            (_, false) => "facility of a sibling region",
        },
    };
    format!("{} > {near}", tier(from))
}

fn jurisdictions(from: &Place, to: &Place) -> String {
    match (from.jurisdiction(), to.jurisdiction()) {
        (None, None) => "-".into(),
        (Some(j), None) | (None, Some(j)) => j.to_string(),
        (Some(a), Some(b)) if a == b => a.to_string(),
        (Some(a), Some(b)) => format!("{a}>{b}"),
    }
}

fn cell(
    rules: &Rules,
    class: DataClass,
    from: &Place,
    to: &Place,
    purpose: Purpose,
) -> &'static str {
    let floor = decide(class, from, to, purpose);
    let decided = rules.decide(class, from, to, purpose);
    match (floor, decided) {
        (Ok(()), Ok(())) => "yes",
        (Ok(()), Err(Refusal::Policy)) => "TIGHTENED",
        (Ok(()), Err(other)) => panic!("{class} {from} {to} {purpose}: {other}"),
        (Err(floor), decided) => {
            assert_eq!(decided, Err(floor), "{class} {from} {to} {purpose}");
            if floor == Refusal::WrongPurpose {
                "-"
            } else {
                floor.reason()
            }
        }
    }
}

type Outcome = [&'static str; 4];
type Ways = BTreeMap<String, BTreeMap<Outcome, Vec<String>>>;

/// way → outcome → the jurisdictions that have it.
fn outcomes(rules: &Rules, class: DataClass) -> Ways {
    let mut ways = Ways::new();
    let places = places();
    for from in &places {
        for to in &places {
            let outcome = Purpose::ALL.map(|purpose| cell(rules, class, from, to, purpose));
            let names = ways
                .entry(way(from, to))
                .or_default()
                .entry(outcome)
                .or_default();
            let name = jurisdictions(from, to);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    ways
}

/// The ways of a class that are refused for one reason whatever the purpose and jurisdiction, by reason.
fn never(ways: &Ways) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut never: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (way, outcomes) in ways {
        let mut cells: Vec<_> = outcomes.keys().flatten().copied().collect();
        cells.dedup();
        if let [only] = cells[..]
            && only != "yes"
        {
            never.entry(only).or_default().insert(way.clone());
        }
    }
    never
}

fn table(rules: &Rules) -> String {
    let ways = DataClass::ALL.map(|class| (class, outcomes(rules, class)));
    let of_all = |reason, way: &String| {
        let refused = |ways| never(ways).get(reason).is_some_and(|all| all.contains(way));
        ways[1..].iter().all(|(_, ways)| refused(ways))
    };
    let mut text = HEAD.to_owned();
    text += "\nevery class\n";
    print_never(&mut text, never(&ways[1].1), of_all);
    for (class, ways) in &ways {
        let purposes = Purpose::ALL.map(Purpose::as_str);
        print_line(&mut text, &format!("\n{class}"), "", &purposes);
        let refused = never(ways);
        for (way, outcomes) in ways {
            let is_never = refused.values().any(|ways| ways.contains(way));
            for (outcome, names) in outcomes.iter().filter(|_| !is_never) {
                let all = outcomes.len() == 1;
                let names = if all { "all".into() } else { names.join(" ") };
                print_line(&mut text, &format!("  {way}"), &names, outcome);
            }
        }
        if *class == DataClass::Phi {
            text += "  never (phi-stays-in-facility): anywhere\n";
        } else {
            print_never(&mut text, refused, |reason, way| !of_all(reason, way));
        }
    }
    text
}

fn print_never(
    text: &mut String,
    never: BTreeMap<&'static str, BTreeSet<String>>,
    shown: impl Fn(&'static str, &String) -> bool,
) {
    for (reason, ways) in never {
        let ways: Vec<String> = ways.into_iter().filter(|way| shown(reason, way)).collect();
        if !ways.is_empty() {
            writeln!(text, "  never ({reason}): {}", ways.join("; ")).unwrap();
        }
    }
}

fn print_line(text: &mut String, way: &str, names: &str, [a, b, c, d]: &Outcome) {
    let way_width = 28 + way.len() - way.trim_start_matches('\n').len();
    let line = format!("{way:<way_width$}{names:<36}{a:<11}{b:<12}{c:<11}{d}");
    writeln!(text, "{}", line.trim_end()).unwrap();
}

#[test]
fn every_flow_is_decided_as_the_residency_table_says() {
    let table = table(&Rules::builtin().unwrap());
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(GOLDEN, &table).unwrap();
    }
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        golden == table,
        "run with UPDATE_GOLDEN=1 and read the difference:\n{table}"
    );
}

#[test]
fn the_table_has_no_yes_for_phi_and_none_abroad_for_what_is_about_a_patient() {
    let rules = Rules::builtin().unwrap();
    for class in [
        DataClass::Phi,
        DataClass::Pseudonymous,
        DataClass::ModelUpdate,
    ] {
        for from in places() {
            for to in places() {
                for purpose in Purpose::ALL {
                    let leaves = from.jurisdiction() != to.jurisdiction();
                    if leaves || class == DataClass::Phi {
                        assert!(
                            rules.decide(class, &from, &to, purpose).is_err(),
                            "{class} {from} {to}"
                        );
                    }
                }
            }
        }
    }
}
