//! A client assertion as it is written: a JWS in compact form (RFC 7515 §3.1) with the claims of a JWT (RFC 7519), read
//! strictly and before its signature is checked. Nothing here says whether it may be believed.
//!
//! What two readers could understand in two ways is refused: a member that comes twice (RFC 7515 §4, RFC 7519 §4), a
//! header that must be understood (`crit`, §4.1.11; this node understands no extension), an audience besides this
//! node, a type that is no JWT's, a date that is no number.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{collections::HashSet, fmt};

/// Characters of an assertion; a real one has some 500.
const MAX_ASSERTION: usize = 4_096;
/// The latest and, negated, the earliest date that is read, in seconds since 1970: some 31,000 years.
const MAX_DATE_SECONDS: f64 = 1e12;

/// An assertion whose signature nobody has checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Unverified {
    /// The key that it says it is signed with.
    pub kid: String,
    /// What it claims.
    pub claims: Claimed,
}

/// Claims of an assertion (RFC 7523 §3). Others are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Claimed {
    /// Issuer.
    pub iss: String,
    /// Subject.
    pub sub: String,
    /// The one audience.
    pub aud: OneAudience,
    /// End of validity.
    pub exp: NumericDate,
    /// Begin of validity.
    #[serde(default)]
    pub nbf: Option<NumericDate>,
    /// When it was made.
    #[serde(default)]
    pub iat: Option<NumericDate>,
    /// Unique id of the assertion.
    pub jti: String,
}

/// An audience that is one alone: a string, or a list with one (RFC 7519 §4.1.3). Who is named beside another could
/// hand the assertion on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneAudience {
    /// The audience.
    One(String),
    /// A list of it.
    Listed([String; 1]),
}

impl OneAudience {
    /// The audience.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::One(own) | Self::Listed([own]) => own,
        }
    }
}

/// Milliseconds since 1970: a JSON number of seconds, with or without a fraction (RFC 7519 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumericDate(pub i64);

impl<'de> Deserialize<'de> for NumericDate {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded, so within 2^53 ms"
    )]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if seconds.abs() <= MAX_DATE_SECONDS {
            Ok(Self((seconds * 1_000.0).round() as i64))
        } else {
            Err(D::Error::custom("not a date"))
        }
    }
}

/// The header (RFC 7515 §4.1). `jku`, `jwk` and `x5u` are ignored, so that no client can name its own keys.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default, deserialize_with = "there")]
    crit: bool,
}

/// A member that is there, whatever its value.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Unverified {
    /// Reads an assertion.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a word of it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        const UNREADABLE: &str = "the assertion is not a signed JWT";
        if text.len() > MAX_ASSERTION {
            return Err(UNREADABLE);
        }
        let mut parts = text.split('.');
        let (Some(head), Some(claims), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(UNREADABLE);
        };
        let head: Head = json(head).ok_or(UNREADABLE)?;
        if head.alg != "ES384" {
            return Err("the assertion is not signed with ES384");
        }
        if head.crit {
            return Err("the assertion has a crit header, and no extension is understood here");
        }
        if head.typ.is_some_and(|typ| !is_jwt(&typ)) {
            return Err("the assertion's typ is not JWT");
        }
        let kid = head.kid.ok_or("the assertion has no kid")?;
        let claims = json(claims).ok_or("a claim is missing, doubled or not of its type")?;
        Ok(Self { kid, claims })
    }
}

/// RFC 7515 §4.1.9: a media type, of which `application/` may be left out; case does not matter.
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == "jwt"
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = BASE64.decode(part).ok()?;
    let Unique = serde_json::from_slice(&bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Any JSON in which no object has a member twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without doubled members")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member comes twice"));
            }
            members.next_value::<Unique>()?;
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = r#"{"alg":"ES384","kid":"k","typ":"JWT"}"#;

    fn claims(exp: &str, aud: &str, more: &str) -> String {
        format!(r#"{{"iss":"c","sub":"c","aud":{aud},"exp":{exp},"jti":"j"{more}}}"#)
    }

    fn assertion(head: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", BASE64.encode(head), BASE64.encode(claims))
    }

    fn read(head: &str, claims: &str) -> Result<Unverified, &'static str> {
        Unverified::read(&assertion(head, claims))
    }

    #[test]
    fn a_date_is_any_number_of_seconds_with_or_without_a_fraction() {
        for (exp, expected) in [
            ("1700000000", Some(1_700_000_000_000)),
            ("1700000000.25", Some(1_700_000_000_250)),
            ("1.7e9", Some(1_700_000_000_000)),
            ("17E8", Some(1_700_000_000_000)),
            ("-1", Some(-1_000)),
            ("0", Some(0)),
            ("1e13", None),
            ("1e999", None),
            ("99999999999999999999999999", None),
            ("\"1700000000\"", None),
            ("null", None),
            ("true", None),
            ("[1]", None),
        ] {
            let found = read(HEAD, &claims(exp, "\"here\"", ""));
            let found = found.ok().map(|read| read.claims.exp.0);
            assert_eq!(found, expected, "{exp}");
        }
    }

    #[test]
    fn an_audience_is_one_alone() {
        for (aud, good) in [
            (r#""here""#, true),
            (r#"["here"]"#, true),
            (r#"["here","there"]"#, false),
            (r#"["here","here"]"#, false),
            ("[]", false),
            (r#"[["here"]]"#, false),
            ("null", false),
            ("1", false),
        ] {
            let found = read(HEAD, &claims("1", aud, ""));
            assert_eq!(found.is_ok(), good, "{aud}");
        }
    }

    #[test]
    fn a_header_that_must_be_understood_or_is_not_a_jwts_is_refused() {
        let good = claims("1", "\"here\"", "");
        for (head, expected) in [
            (HEAD, true),
            (r#"{"alg":"ES384","kid":"k"}"#, true),
            (
                r#"{"alg":"ES384","kid":"k","typ":"application/jwt","jku":"https://x"}"#,
                true,
            ),
            (r#"{"alg":"ES384","kid":"k","crit":["exp"],"exp":1}"#, false),
            (
                r#"{"alg":"ES384","kid":"k","crit":["b64"],"b64":false}"#,
                false,
            ),
            (r#"{"alg":"ES384","kid":"k","crit":[]}"#, false),
            (r#"{"alg":"ES384","kid":"k","crit":null}"#, false),
            (r#"{"alg":"ES384","kid":"k","typ":"at+jwt"}"#, false),
            (r#"{"alg":"ES384","kid":"k","typ":1}"#, false),
            (r#"{"alg":"ES384","kid":1}"#, false),
            (r#"{"alg":"ES384"}"#, false),
            (r#"{"alg":"none","kid":"k"}"#, false),
            (r#"{"alg":"HS256","kid":"k"}"#, false),
            (r#"{"alg":"es384","kid":"k"}"#, false),
            (r#"{"kid":"k"}"#, false),
            (r#"{"alg":"none","alg":"ES384","kid":"k"}"#, false),
            (r#"{"alg":"ES384","kid":"k","kid":"k"}"#, false),
            (r#"{"alg":"ES384","kid":"k","x":1,"x":2}"#, false),
        ] {
            assert_eq!(read(head, &good).is_ok(), expected, "{head}");
        }
    }

    #[test]
    fn a_claim_that_comes_twice_is_refused_at_any_depth() {
        for more in [
            r#","exp":2"#,
            r#","jti":"other""#,
            r#","x":{"y":1,"y":2}"#,
            r#","x":[{"y":1,"y":2}]"#,
        ] {
            assert!(
                read(HEAD, &claims("1", "\"here\"", more)).is_err(),
                "{more}"
            );
        }
        let fine = r#","x":{"y":[1,2.5,null,true,"z"],"z":{"y":1}}"#;
        assert!(read(HEAD, &claims("1", "\"here\"", fine)).is_ok());
    }

    #[test]
    fn an_assertion_has_three_parts_and_a_length() {
        let good = assertion(HEAD, &claims("1", "\"here\"", ""));
        assert!(Unverified::read(&good).is_ok());
        for bad in [
            String::new(),
            "..".to_owned(),
            format!("{good}.x"),
            good.rsplit_once('.').unwrap().0.to_owned(),
            format!("{good}{}", "A".repeat(MAX_ASSERTION)),
            format!("={good}"),
        ] {
            assert!(Unverified::read(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_fail_otherwise_than_by_refusing(
            head in any::<Vec<u8>>(), claims in any::<Vec<u8>>(), text in ".{0,200}"
        ) {
            let _ = Unverified::read(&text);
            let made = format!("{}.{}.", BASE64.encode(&head), BASE64.encode(&claims));
            let _ = Unverified::read(&made);
        }

        #[test]
        fn what_is_changed_in_a_good_assertion_is_read_or_refused(
            at in 0_usize..200, with in any::<u8>(), cut in 0_usize..200
        ) {
            let mut claims = claims("1700000000.5", "[\"here\"]", r#","nbf":1,"iat":1"#).into_bytes();
            let length = claims.len();
            claims[at % length] = with;
            claims.truncate(length - cut % length);
            let text = format!("{}.{}.c2ln", BASE64.encode(HEAD), BASE64.encode(&claims));
            if let Ok(read) = Unverified::read(&text) {
                prop_assert!(read.claims.exp.0.abs() <= 1_000_000_000_000_000);
            }
        }
    }
}
