//! Where clients find a server: at one address, or at several, as one of two nodes that stand in for each other. An absolute
//! reference that begins with any of these leads to what this server holds (FHIR R4 references.html#absolute).

/// The bases of one server, such as `https://region.example/fhir`, each without a slash at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases<'a> {
    own: &'a str,
    others: &'a [String],
}

impl<'a> Bases<'a> {
    /// One base. None is known when it is empty.
    #[must_use]
    pub const fn of(own: &'a str) -> Self {
        Self { own, others: &[] }
    }

    /// The same server at other bases too.
    #[must_use]
    pub const fn and(self, others: &'a [String]) -> Self {
        Self { others, ..self }
    }

    /// What follows a base of this server in a URL: nothing, or what begins with `/` or `?`. None when it is elsewhere.
    #[must_use]
    pub fn behind<'t>(&self, url: &'t str) -> Option<&'t str> {
        let others = self.others.iter().map(String::as_str);
        let mut bases = std::iter::once(self.own).chain(others);
        bases.find_map(|base| {
            let rest = url.strip_prefix(base).filter(|_| !base.is_empty())?;
            (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
        })
    }

    /// What is below a base of this server, such as `Patient/1`. None when it is elsewhere.
    #[must_use]
    pub fn below<'t>(&self, url: &'t str) -> Option<&'t str> {
        self.behind(url)?.strip_prefix('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_any_base_of_the_server_is_below_it_and_nothing_else_is() {
        let others = ["https://b:8443/fhir".to_owned()];
        let bases = Bases::of("https://a/fhir").and(&others);
        for (url, below) in [
            ("https://a/fhir/Patient/1", Some("Patient/1")),
            ("https://b:8443/fhir/Patient/1", Some("Patient/1")),
            ("https://b:8443/fhir", None),
            ("https://b:84433/fhir/Patient/1", None),
            ("https://b/fhir/Patient/1", None),
            ("https://a/fhirs/Patient/1", None),
            ("Patient/1", None),
            ("", None),
        ] {
            assert_eq!(bases.below(url), below, "{url}");
        }
        assert_eq!(
            bases.behind("https://b:8443/fhir?_type=Patient"),
            Some("?_type=Patient")
        );
        assert_eq!(bases.behind("https://a/fhir"), Some(""));
        assert_eq!(Bases::of("").below("/Patient/1"), None);
    }
}
