//! Which resources of a parcel were conflicts, as both engines keep it.

/// Conflict positions as stored text: `3,17`.
pub(crate) fn conflicts_text(conflicts: &[u32]) -> String {
    let list: Vec<String> = conflicts.iter().map(u32::to_string).collect();
    list.join(",")
}

/// The inverse of [`conflicts_text`].
pub(crate) fn conflicts_of(text: &str) -> Vec<u32> {
    text.split(',')
        .filter_map(|part| part.parse().ok())
        .collect()
}
