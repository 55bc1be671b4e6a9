//! The order of a search: `_sort`, a list of keys, the most significant first (FHIR R4 search.html#sort).
use crate::store::ResourceType;

/// The order of a search. It is total: what the key does not tell apart, the id does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// The largest first.
    pub descending: bool,
    /// Of equal ones the largest id first.
    pub ids_descending: bool,
    /// Whether the client asked for the order of equal ones. Otherwise any will do.
    pub ids_asked: bool,
}

/// What a search is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Source time; Observation only.
    Date,
    /// Id, by its bytes.
    Id,
    /// `meta.lastUpdated`, by the order of commits.
    LastUpdated,
}

impl Sort {
    /// By one key.
    #[must_use]
    pub const fn by(key: SortKey, descending: bool) -> Self {
        Self {
            key,
            descending,
            ids_descending: descending,
            ids_asked: false,
        }
    }

    /// Observations newest first, as clinicians read them; the others, which have no time, by id.
    #[must_use]
    pub fn default_of(kind: ResourceType) -> Self {
        match kind {
            ResourceType::Observation => Self::by(SortKey::Date, true),
            _ => Self::by(SortKey::Id, false),
        }
    }

    /// Reads a list of keys. Nothing after `_id` matters, since no two are equal by it.
    ///
    /// # Errors
    /// The first key that is not offered, or not offered behind another one, as it came.
    pub fn parse(kind: ResourceType, list: &str) -> Result<Self, String> {
        let mut sort: Option<Self> = None;
        for text in list.split(',') {
            let (descending, name) = match text.strip_prefix('-') {
                Some(name) => (true, name),
                None => (false, text),
            };
            let key = match name {
                "date" if kind == ResourceType::Observation => SortKey::Date,
                "_id" => SortKey::Id,
                "_lastUpdated" => SortKey::LastUpdated,
                _ => return Err(text.chars().take(64).collect()),
            };
            match &mut sort {
                None => sort = Some(Self::by(key, descending)),
                Some(sort) if sort.key == SortKey::Id || sort.ids_asked => {}
                Some(sort) if key == SortKey::Id => {
                    sort.ids_descending = descending;
                    sort.ids_asked = true;
                }
                Some(_) => return Err(text.to_owned()),
            }
        }
        sort.ok_or_else(String::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_keys_is_an_order_and_a_key_that_is_not_offered_is_named() {
        let of = |list| Sort::parse(ResourceType::Observation, list);
        assert_eq!(of("-date"), Ok(Sort::by(SortKey::Date, true)));
        let mixed = Sort {
            ids_descending: false,
            ids_asked: true,
            ..Sort::by(SortKey::Date, true)
        };
        assert_eq!(of("-date,_id"), Ok(mixed));
        assert_eq!(of("-date,_id,_lastUpdated"), Ok(mixed));
        assert_eq!(of("_id,date"), Ok(Sort::by(SortKey::Id, false)));
        assert!(of("-_lastUpdated,-_id").is_ok());
        for (list, named) in [
            ("code,-date", "code"),
            ("-date,-code", "-code"),
            ("date,_lastUpdated", "_lastUpdated"),
            ("date,,_id", ""),
            ("_id,code", "code"),
            ("--date", "--date"),
        ] {
            assert_eq!(of(list), Err(named.to_owned()), "{list}");
        }
        let patients = Sort::parse(ResourceType::Patient, "date");
        assert_eq!(patients, Err("date".to_owned()));
    }
}
