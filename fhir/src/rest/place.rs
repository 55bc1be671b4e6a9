//! The place in a listing as a client holds it: hidden, since it may be that of a resource which the token does not show, and
//! with a proof that this server made it for that very search.
use crate::query::sql::Bind;
use crate::search::Seal;
use crate::store::{FindPlace, ResourceType};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// A cursor. `own` is the search: what follows the base in its link.
pub fn seal(seal: &Seal, own: &str, place: &FindPlace) -> String {
    let mut parts: Vec<String> = vec![place.kind.to_string(), place.id.to_string()];
    parts.extend(place.keys.iter().map(text_of));
    let text = serde_json::Value::from(parts).to_string();
    prove(seal, own, &text)
}

/// The inverse of [`seal`]; none when it was made for another search, or by nobody.
pub fn open(seal: &Seal, own: &str, cursor: &str) -> Option<FindPlace> {
    let text = proved(seal, own, cursor)?;
    let parts: Vec<String> = serde_json::from_str(&text).ok()?;
    let (kind, id, keys) = match parts.as_slice() {
        [kind, id, keys @ ..] => (kind, id, keys),
        _ => return None,
    };
    Some(FindPlace {
        kind: ResourceType::parse(kind)?,
        id: id.parse().ok()?,
        keys: keys.iter().map(|key| bind_of(key)).collect::<Option<_>>()?,
    })
}

/// A place that another text says, hidden and proved in the same way.
pub fn prove(seal: &Seal, own: &str, text: &str) -> String {
    let (hidden, proof) = seal.hide(&claim(own), text);
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(hidden),
        URL_SAFE_NO_PAD.encode(proof)
    )
}

/// The inverse of [`prove`]; none when it was made for another search, or by nobody.
pub fn proved(seal: &Seal, own: &str, cursor: &str) -> Option<String> {
    let (hidden, proof) = cursor.split_once('.')?;
    let hidden = URL_SAFE_NO_PAD.decode(hidden).ok()?;
    let proof = URL_SAFE_NO_PAD.decode(proof).ok()?;
    seal.read(&claim(own), &hidden, &proof)
}

fn claim(own: &str) -> String {
    format!("find {own}")
}

fn text_of(key: &Bind) -> String {
    match key {
        Bind::Null => "-".to_owned(),
        Bind::Integer(number) => format!("i{number}"),
        Bind::Real(number) => format!("r{}", number.to_bits()),
        Bind::Text(text) => format!("t{text}"),
    }
}

fn bind_of(text: &str) -> Option<Bind> {
    if text == "-" {
        return Some(Bind::Null);
    }
    if let Some(number) = text.strip_prefix('i') {
        return number.parse().ok().map(Bind::Integer);
    }
    if let Some(bits) = text.strip_prefix('r') {
        return bits
            .parse()
            .ok()
            .map(|bits| Bind::Real(f64::from_bits(bits)));
    }
    text.strip_prefix('t').map(Bind::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_for_the_search_that_it_was_made_for_and_for_no_other() {
        let own_seal = Seal::of_secret(b"a");
        let place = FindPlace {
            keys: vec![
                Bind::Null,
                Bind::Integer(-7),
                Bind::Real(0.1),
                Bind::Text("-é\"".into()),
            ],
            kind: ResourceType::Patient,
            id: "x".parse().unwrap(),
        };
        let cursor = seal(&own_seal, "Patient?_sort=name", &place);
        assert_eq!(open(&own_seal, "Patient?_sort=name", &cursor), Some(place));
        let (hidden, _) = cursor.split_once('.').unwrap();
        let hidden = URL_SAFE_NO_PAD.decode(hidden).unwrap();
        let told = String::from_utf8_lossy(&hidden);
        assert!(!told.contains("Patient"), "{told}");
        assert_eq!(open(&own_seal, "Patient?_sort=-name", &cursor), None);
        assert_eq!(
            open(&Seal::of_secret(b"b"), "Patient?_sort=name", &cursor),
            None
        );
        let forged = URL_SAFE_NO_PAD.encode("[\"Patient\",\"y\"]");
        let (_, proof) = cursor.split_once('.').unwrap();
        for text in [format!("{forged}.{proof}"), forged, String::new()] {
            assert_eq!(open(&own_seal, "Patient?_sort=name", &text), None);
        }
    }
}
