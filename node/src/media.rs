//! The media type of a request's body (RFC 9110 §8.3), judged alike wherever a body is taken.
use crate::problem::Problem;
use axum::http::{HeaderMap, StatusCode, header};

/// Whether the body is said to be of one of these media types. Parameters, such as a character set, are passed over.
///
/// # Errors
/// 415, with the types that are taken.
pub fn is_one_of(headers: &HeaderMap, types: &[&str]) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok());
    let given = given.unwrap_or_default().split(';').next();
    let given = given.unwrap_or_default().trim();
    if types.iter().any(|known| known.eq_ignore_ascii_case(given)) {
        return Ok(());
    }
    let detail = format!("the body is {}", types.join(" or "));
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Problem::new(status, "media type", detail).at("Content-Type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_its_name_alone() {
        let types = ["application/json", "application/merge-patch+json"];
        for (given, taken) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/merge-patch+json"), true),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/json+x"), false),
            (Some("text/plain"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::CONTENT_TYPE, given.parse().unwrap());
            }
            let judged = is_one_of(&headers, &types);
            let status = judged.map_err(|problem| problem.status());
            let expected = match taken {
                true => Ok(()),
                false => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            };
            assert_eq!(status, expected, "{given:?}");
        }
    }
}
