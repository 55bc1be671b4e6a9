//! What a client sends to the token endpoint, as a form (RFC 6749 §4.4.2, RFC 7521 §4.2).
use super::{ASSERTION_TYPE, Refused};
use crate::media;
use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header},
};

const FORM: &str = "application/x-www-form-urlencoded";
const ONE_PROOF: Refused =
    Refused::InvalidRequest("a client proves itself by its assertion alone (RFC 6749 section 2.3)");

/// The pairs of a form.
pub(super) fn read(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Vec<(String, String)>, Refused> {
    const UNREADABLE: Refused =
        Refused::InvalidRequest("the body is not application/x-www-form-urlencoded in UTF-8");
    media::is_one_of(headers, &[FORM]).map_err(|_| UNREADABLE)?;
    if headers.contains_key(header::AUTHORIZATION) {
        return Err(ONE_PROOF);
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refused::TooLong,
        _ => UNREADABLE,
    })?;
    let pairs = body.split(|byte| *byte == b'&');
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let name = decoded(parts.next().unwrap_or_default())?;
        Some((name, decoded(parts.next().unwrap_or_default())?))
    });
    pairs.collect::<Option<_>>().ok_or(UNREADABLE)
}

/// Without its escapes; none where they are none, or hide what is no UTF-8: what is left by guessing would be another text.
fn decoded(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [*bytes.next()?, *bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)?
            }
            byte => *byte,
        });
    }
    String::from_utf8(out).ok()
}

/// The form of a token request.
pub(super) struct Asked<'a> {
    pub(super) assertion: &'a str,
    pub(super) scope: &'a str,
    /// Not needed beside an assertion; where it is there it is once, and that of the assertion.
    pub(super) client_id: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(form: &'a [(String, String)]) -> Result<Self, Refused> {
        // A parameter without a value is none (RFC 6749 §3.2).
        let is_secret =
            |(key, value): &(String, String)| key == "client_secret" && !value.is_empty();
        if form.iter().any(is_secret) {
            return Err(ONE_PROOF);
        }
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
