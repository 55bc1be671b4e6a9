//! Answers packed by gzip, where the client takes that (FHIR R4 http.html#compression). Files of exports are packed on
//! their way ([`super::bulk`]).
use super::{FHIR_JSON, negotiation::takes_gzip};
use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// An answer of fewer bytes is sent as it is: packing it would save no packet.
const MIN_BYTES: u64 = 1_024;

/// Packs the answer to a request.
pub async fn pack(request: Request, next: Next) -> Response {
    let is_asked = takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(FHIR_JSON.as_bytes()));
    if !is_json || headers.contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    // What is whole already; a stream goes as it comes.
    let is_long = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|bytes| bytes >= MIN_BYTES);
    if !is_asked || !is_long {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(whole) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let text = whole.clone();
    let packed = tokio::task::spawn_blocking(move || {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&text).and_then(|()| packer.finish())
    });
    match packed.await {
        Ok(Ok(packed)) => {
            let gzip = HeaderValue::from_static("gzip");
            parts.headers.insert(header::CONTENT_ENCODING, gzip);
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(packed))
        }
        _ => Response::from_parts(parts, Body::from(whole)),
    }
}
