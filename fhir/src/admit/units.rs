//! How units are written for people: a closed table of those of vital signs, laboratories and time, so that the text beside a
//! code says nothing else.

/// Codes of UCUM, and what is written for each beside the code itself.
const WRITTEN: &[(&str, &[&str])] = &[
    ("mm[Hg]", &["mmHg", "mm Hg"]),
    (
        "/min",
        &[
            "beats/minute",
            "beats/min",
            "breaths/minute",
            "breaths/min",
            "beats per minute",
            "breaths per minute",
            "per minute",
            "bpm",
            "1/min",
        ],
    ),
    ("Cel", &["C", "°C", "degrees C", "degC"]),
    ("[degF]", &["F", "°F", "degrees F", "degF"]),
    ("%", &["percent"]),
    ("mL", &["ml", "milliliter", "milliliters"]),
    ("L/min", &["liters/min", "liters per minute"]),
    ("kg", &["kilogram", "kilograms"]),
    ("g", &["gram", "grams"]),
    ("cm", &["centimeter", "centimeters"]),
    ("m", &["meter", "meters"]),
    ("[in_i]", &["in", "inch", "inches"]),
    ("[lb_av]", &["lb", "lbs", "pound", "pounds"]),
    ("kg/m2", &["kg/m^2", "kg/m²"]),
    ("10*3/uL", &["10^3/uL", "K/uL", "x10^3/uL"]),
    ("10*6/uL", &["10^6/uL", "M/uL", "x10^6/uL"]),
    ("10*9/L", &["10^9/L", "x10^9/L"]),
    ("10*12/L", &["10^12/L", "x10^12/L"]),
    ("[iU]/L", &["IU/L"]),
    ("meq/L", &["mEq/L"]),
    ("ug", &["mcg", "µg"]),
    ("h", &["hour", "hours", "hr"]),
    ("min", &["minute", "minutes"]),
    ("s", &["second", "seconds", "sec"]),
    ("d", &["day", "days"]),
    ("wk", &["week", "weeks"]),
    ("mo", &["month", "months"]),
    ("a", &["year", "years"]),
];

/// Whether a text says the unit of a code, and no more.
pub(super) fn says(code: &str, text: &str) -> bool {
    let of_code = WRITTEN.iter().filter(|(known, _)| *known == code);
    text == code
        || of_code
            .flat_map(|(_, texts)| *texts)
            .any(|one| *one == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_written_as_its_code_or_as_people_write_it() {
        for (code, text, is) in [
            ("mm[Hg]", "mm[Hg]", true),
            ("mm[Hg]", "mmHg", true),
            ("mm[Hg]", "mmHg of Jane Doe", false),
            ("mm[Hg]", "beats/minute", false),
            ("/min", "beats/minute", true),
            ("ng/mL", "ng/mL", true),
            ("ng/mL", "ng per ml", false),
            ("", "mmHg", false),
        ] {
            assert_eq!(says(code, text), is, "{code} {text}");
        }
    }
}
