//! The units that are known, each by its factor and its base units (UCUM 2.1, tables 1 to 25).
use super::{Factor, Unit};

/// Prefixes with their powers of ten, the longer of two that begin alike first.
pub const PREFIXES: &[(&str, i32)] = &[
    ("da", 1),
    ("Y", 24),
    ("Z", 21),
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("h", 2),
    ("d", -1),
    ("c", -2),
    ("m", -3),
    ("u", -6),
    ("n", -9),
    ("p", -12),
    ("f", -15),
    ("a", -18),
    ("z", -21),
    ("y", -24),
];

/// Code, numerator, denominator, power of ten, base units, whether prefixes go with it.
type Row = (
    &'static str,
    i128,
    i128,
    i32,
    &'static [(&'static str, i32)],
    bool,
);

const NONE: &[(&str, i32)] = &[];
const G: &[(&str, i32)] = &[("g", 1)];
const M: &[(&str, i32)] = &[("m", 1)];
const M3: &[(&str, i32)] = &[("m", 3)];
const S: &[(&str, i32)] = &[("s", 1)];
const MOL: &[(&str, i32)] = &[("mol", 1)];
const PASCAL: &[(&str, i32)] = &[("g", 1), ("m", -1), ("s", -2)];
const JOULE: &[(&str, i32)] = &[("g", 1), ("m", 2), ("s", -2)];
const KATAL: &[(&str, i32)] = &[("mol", 1), ("s", -1)];
const PER_S: &[(&str, i32)] = &[("s", -1)];
const GRAY: &[(&str, i32)] = &[("m", 2), ("s", -2)];

/// Base units, then what is made of them.
#[rustfmt::skip]
const UNITS: &[Row] = &[
    ("m", 1, 1, 0, M, true), ("g", 1, 1, 0, G, true), ("s", 1, 1, 0, S, true), ("K", 1, 1, 0, &[("K", 1)], true),
    ("C", 1, 1, 0, &[("C", 1)], true), ("cd", 1, 1, 0, &[("cd", 1)], true), ("rad", 1, 1, 0, &[("rad", 1)], true),
    ("mol", 1, 1, 0, MOL, true), ("eq", 1, 1, 0, MOL, true), ("osm", 1, 1, 0, MOL, true),
    // Numbers.
    ("%", 1, 1, -2, NONE, false), ("[ppth]", 1, 1, -3, NONE, false), ("[ppm]", 1, 1, -6, NONE, false),
    ("[ppb]", 1, 1, -9, NONE, false), ("[pptr]", 1, 1, -12, NONE, false),
    // Time.
    ("min", 60, 1, 0, S, false), ("h", 3_600, 1, 0, S, false), ("d", 86_400, 1, 0, S, false),
    ("wk", 604_800, 1, 0, S, false), ("mo", 2_629_800, 1, 0, S, false), ("mo_j", 2_629_800, 1, 0, S, false),
    ("a", 31_557_600, 1, 0, S, false), ("a_j", 31_557_600, 1, 0, S, false), ("a_g", 31_556_952, 1, 0, S, false),
    ("Hz", 1, 1, 0, PER_S, true), ("Bq", 1, 1, 0, PER_S, true), ("Ci", 37, 1, 9, PER_S, true),
    // Volume and length.
    ("l", 1, 1, -3, M3, true), ("L", 1, 1, -3, M3, true), ("ar", 1, 1, 2, &[("m", 2)], true),
    ("Ao", 1, 1, -10, M, false), ("[in_i]", 254, 1, -4, M, false), ("[ft_i]", 3_048, 1, -4, M, false),
    ("[yd_i]", 9_144, 1, -4, M, false), ("[mi_i]", 1_609_344, 1, -3, M, false), ("[in_us]", 100, 3_937, 0, M, false),
    ("[ft_us]", 1_200, 3_937, 0, M, false), ("[Ch]", 1, 3, -3, M, false), ("[diop]", 1, 1, 0, &[("m", -1)], false),
    ("[cin_i]", 16_387_064, 1, -12, M3, false), ("[gal_us]", 3_785_411_784, 1, -12, M3, false),
    ("[qt_us]", 946_352_946, 1, -12, M3, false), ("[pt_us]", 473_176_473, 1, -12, M3, false),
    ("[cup_us]", 2_365_882_365, 1, -13, M3, false), ("[foz_us]", 295_735_295_625, 1, -16, M3, false),
    ("[tbs_us]", 1_478_676_478_125, 1, -17, M3, false), ("[tsp_us]", 492_892_159_375, 1, -17, M3, false),
    ("[cup_m]", 24, 1, -5, M3, false), ("[foz_m]", 3, 1, -5, M3, false), ("[tbs_m]", 15, 1, -6, M3, false),
    ("[tsp_m]", 5, 1, -6, M3, false), ("[drp]", 5, 1, -8, M3, false),
    // Mass.
    ("t", 1, 1, 6, G, true), ("u", 166_053_906_660, 1, -35, G, true), ("[gr]", 6_479_891, 1, -8, G, false),
    ("[lb_av]", 45_359_237, 1, -5, G, false), ("[oz_av]", 28_349_523_125, 1, -9, G, false),
    ("[dr_av]", 17_718_451_953_125, 1, -13, G, false), ("[stone_av]", 635_029_318, 1, -5, G, false),
    ("[oz_ap]", 311_034_768, 1, -7, G, false), ("[lb_ap]", 3_732_417_216, 1, -7, G, false), ("[car_m]", 2, 1, -1, G, false),
    // Force, pressure, energy, power.
    ("N", 1, 1, 3, &[("g", 1), ("m", 1), ("s", -2)], true), ("dyn", 1, 1, -2, &[("g", 1), ("m", 1), ("s", -2)], true),
    ("Pa", 1, 1, 3, PASCAL, true), ("bar", 1, 1, 8, PASCAL, true), ("atm", 101_325, 1, 3, PASCAL, false),
    ("m[Hg]", 133_322, 1, 3, PASCAL, true), ("m[H2O]", 980_665, 1, 1, PASCAL, true),
    ("[psi]", 8_896_443_230_521, 1_290_320_000, 3, PASCAL, false), ("[in_i'Hg]", 33_863_788, 1, -1, PASCAL, false),
    ("J", 1, 1, 3, JOULE, true), ("erg", 1, 1, -4, JOULE, true), ("cal", 4_184, 1, 0, JOULE, true),
    ("cal_th", 4_184, 1, 0, JOULE, true), ("[Cal]", 4_184, 1, 3, JOULE, false), ("eV", 1_602_176_634, 1, -25, JOULE, true),
    ("W", 1, 1, 3, &[("g", 1), ("m", 2), ("s", -3)], true), ("P", 1, 1, 2, &[("g", 1), ("m", -1), ("s", -1)], true),
    ("St", 1, 1, -4, &[("m", 2), ("s", -1)], true),
    // Electricity and light.
    ("A", 1, 1, 0, &[("C", 1), ("s", -1)], true), ("V", 1, 1, 3, &[("C", -1), ("g", 1), ("m", 2), ("s", -2)], true),
    ("Ohm", 1, 1, 3, &[("C", -2), ("g", 1), ("m", 2), ("s", -1)], true),
    ("S", 1, 1, -3, &[("C", 2), ("g", -1), ("m", -2), ("s", 1)], true),
    ("F", 1, 1, -3, &[("C", 2), ("g", -1), ("m", -2), ("s", 2)], true),
    ("H", 1, 1, 3, &[("C", -2), ("g", 1), ("m", 2)], true), ("Wb", 1, 1, 3, &[("C", -1), ("g", 1), ("m", 2), ("s", -1)], true),
    ("T", 1, 1, 3, &[("C", -1), ("g", 1), ("s", -1)], true), ("lx", 1, 1, 0, &[("cd", 1), ("m", -2), ("rad", 2)], true),
    ("lm", 1, 1, 0, &[("cd", 1), ("rad", 2)], true), ("sr", 1, 1, 0, &[("rad", 2)], true),
    // Radiation.
    ("Gy", 1, 1, 0, GRAY, true), ("Sv", 1, 1, 0, GRAY, true), ("RAD", 1, 1, -2, GRAY, true), ("REM", 1, 1, -2, GRAY, true),
    ("R", 258, 1, -9, &[("C", 1), ("g", -1)], true),
    // Catalysis.
    ("kat", 1, 1, 0, KATAL, true), ("U", 1, 60, -6, KATAL, true),
    // Procedures, each its own base.
    ("[iU]", 1, 1, 0, &[("[iU]", 1)], true), ("[IU]", 1, 1, 0, &[("[iU]", 1)], true),
    ("[pH]", 1, 1, 0, &[("[pH]", 1)], false), ("B", 1, 1, 0, &[("B", 1)], true), ("Np", 1, 1, 0, &[("Np", 1)], true),
    ("deg", 1, 1, 0, &[("deg", 1)], false), ("'", 1, 60, 0, &[("deg", 1)], false), ("''", 1, 3_600, 0, &[("deg", 1)], false),
    ("bit", 1, 1, 0, &[("bit", 1)], false), ("By", 8, 1, 0, &[("bit", 1)], true), ("Bd", 1, 1, 0, PER_S, true),
];

/// A unit by its code, and whether prefixes go with it.
pub fn unit(code: &str) -> Option<(Unit, bool)> {
    let row = UNITS.iter().find(|row| row.0 == code)?;
    let (_, num, den, exp, bases, is_metric) = *row;
    let unit = Unit {
        factor: Factor::of(num, den, exp),
        bases: bases
            .iter()
            .map(|(base, power)| ((*base).to_owned(), *power))
            .collect(),
        offset: None,
    };
    Some((unit, is_metric))
}

/// Scales with another zero than kelvin's, which stand alone.
pub fn special(code: &str) -> Option<Unit> {
    let (factor, offset) = match code {
        "Cel" => (Factor::ONE, (27_315, 100)),
        "[degF]" => (Factor::of(5, 9, 0), (45_967 * 5, 900)),
        _ => return None,
    };
    Some(Unit {
        factor,
        bases: vec![("K".to_owned(), 1)],
        offset: Some(offset),
    })
}
