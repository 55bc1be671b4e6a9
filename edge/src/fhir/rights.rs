//! Who may do what of the facility's own FHIR: the node's own token everything, and each program of the file of rights
//! what its `fhir` scopes say ([`broker::Viewers`]). Nothing is asked of anybody outside, so that it holds offline.
use axum::http::HeaderMap;
use broker::Viewers;
use fhir::{
    rest::{Authorize, Denied, Granted, Interaction, Reader, understood},
    store::ResourceType,
};
use node::token::{Interaction as Needed, Scopes, bearer_token};
use sha2::{Digest as _, Sha256};

/// Whom the node's own token makes of whoever shows it, as in the audit log of the local API.
const OWN: &str = "api-token";
/// What is said to whoever shows no good token (RFC 6750 §3).
const CHALLENGE: &str = "Bearer";

/// Checks tokens of the facility.
pub(super) struct Bearer {
    /// SHA-256 of the node's own token: comparing digests says nothing of how far a guess was right.
    own: [u8; 32],
    programs: Viewers,
}

impl Bearer {
    pub(super) fn new(own: &str, programs: Viewers) -> Self {
        Self {
            own: Sha256::digest(own).into(),
            programs,
        }
    }

    /// Whose token a request shows; its scopes, where it is not the node's own.
    fn shown(&self, headers: &HeaderMap) -> Result<(Reader, Option<&Scopes>), Denied> {
        let shown = bearer_token(headers);
        let digest: Option<[u8; 32]> = shown.map(|token| Sha256::digest(token).into());
        let digest = digest.ok_or(Denied::Unauthenticated(CHALLENGE))?;
        if digest == self.own {
            return Ok((Reader(OWN.to_owned()), None));
        }
        match self.programs.of_token(&digest) {
            Some((name, scopes)) => Ok((Reader(name.to_string()), Some(scopes))),
            None => Err(Denied::Unauthenticated(CHALLENGE)),
        }
    }
}

impl Authorize for Bearer {
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Granted, Denied> {
        let (reader, scopes) = self.shown(headers)?;
        let Some(scopes) = scopes else {
            return Ok(Granted::everything(reader));
        };
        match scopes.over(kind.as_str(), needed(interaction)) {
            Some(queries) => {
                let only = understood(kind, queries).into_iter();
                Ok(Granted {
                    reader,
                    only: only.map(str::to_owned).collect(),
                })
            }
            None => Err(Denied::Forbidden(reader)),
        }
    }

    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        Ok(self.shown(headers)?.0)
    }
}

/// What a scope has to allow for an interaction (SMART App Launch 2.2, "Scopes").
const fn needed(interaction: Interaction) -> Needed {
    match interaction {
        Interaction::Read | Interaction::Vread | Interaction::HistoryInstance => Needed::Read,
        Interaction::SearchType
        | Interaction::SearchSystem
        | Interaction::HistoryType
        | Interaction::HistorySystem => Needed::Search,
        Interaction::Create => Needed::Create,
        // Each entry of a Bundle is asked for by itself; an update may make a new one.
        Interaction::Batch
        | Interaction::Transaction
        | Interaction::Update
        | Interaction::Patch => Needed::Update,
        Interaction::Delete => Needed::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::AUTHORIZATION;

    #[test]
    fn a_token_is_shown_once_and_its_scheme_in_any_case() {
        let bearer = Bearer::new("secret", Viewers::default());
        for (shown, is_good) in [
            (&["Bearer secret"][..], true),
            (&["bearer secret"][..], true),
            (&["BEARER  secret"][..], true),
            (&["Basic secret"][..], false),
            (&["Bearer"][..], false),
            (&["secret"][..], false),
            (&["Bearer secret", "Bearer other"][..], false),
            (&[] as &[&str], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in shown {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer.known(&headers).is_ok(), is_good, "{shown:?}");
        }
    }
}
