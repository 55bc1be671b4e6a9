//! What a client sends to the token endpoint, as a form (RFC 6749 §4.4.2, RFC 7521 §4.2).
use super::{ASSERTION_TYPE, Refused};

/// The form of a token request.
pub(super) struct Asked<'a> {
    pub(super) assertion: &'a str,
    pub(super) scope: &'a str,
    /// Not needed beside an assertion; where it is there it is once, and that of the assertion.
    pub(super) client_id: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(form: &'a [(String, String)]) -> Result<Self, Refused> {
        if one(form, "grant_type")? != "client_credentials" {
            return Err(Refused::UnsupportedGrantType);
        }
        if one(form, "client_assertion_type")? != ASSERTION_TYPE {
            return Err(Refused::InvalidRequest(
                "client_assertion_type is urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ));
        }
        Ok(Self {
            assertion: one(form, "client_assertion")?,
            scope: one(form, "scope")?,
            client_id: match form.iter().any(|(key, _)| key == "client_id") {
                true => Some(one(form, "client_id")?),
                false => None,
            },
        })
    }
}

/// The parameter, which must be there once (RFC 6749 §3.2).
fn one<'a>(form: &'a [(String, String)], name: &str) -> Result<&'a str, Refused> {
    let mut values = form.iter().filter(|(key, _)| key == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value),
        _ => Err(Refused::InvalidRequest(
            "grant_type, client_assertion_type, client_assertion and scope are needed, once each; client_id at most once",
        )),
    }
}
