//! What the code systems of HL7 call their codes: of those in the value sets to which R4 binds an element, however strongly.
use std::{collections::HashMap, sync::LazyLock};

type Names = HashMap<&'static str, &'static str>;

static DISPLAYS: LazyLock<HashMap<&'static str, Names>> =
    LazyLock::new(|| read(include_str!("displays.txt")));

/// What a code is called in its system (FHIR R4 CodeSystem.concept.display).
pub fn display_of(system: &str, code: &str) -> Option<&'static str> {
    DISPLAYS.get(system)?.get(code).copied()
}

/// `=system`, then ` code<tab>display` for each code.
fn read(text: &'static str) -> HashMap<&'static str, Names> {
    let mut all: HashMap<&'static str, Names> = HashMap::new();
    let mut system = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(next) = line.strip_prefix('=') {
            system = next;
        } else if let Some((code, display)) = line.trim_start().split_once('\t') {
            all.entry(system).or_default().insert(code, display);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_hl7_has_the_name_that_its_system_gives_it() {
        const V3: &str = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus";
        for (system, code, display) in [
            (
                "http://terminology.hl7.org/CodeSystem/observation-category",
                "vital-signs",
                Some("Vital Signs"),
            ),
            (V3, "S", Some("Never Married")),
            (V3, "Never Married", None),
            ("http://loinc.org", "8867-4", None),
        ] {
            assert_eq!(display_of(system, code), display, "{system} {code}");
        }
    }
}
