//! How a place is written on the command line.
use types::Place;

/// A place, as a person writes it.
pub(super) fn place(text: &str) -> Result<Place, String> {
    text.parse::<Place>().map_err(|name| {
        format!("a place is edge/JURISDICTION/REGION/FACILITY, regional/JURISDICTION/REGION or global; {name}")
    })
}
