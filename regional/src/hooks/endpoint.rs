//! The URL of an endpoint, and what it begins with. Pure.
use axum::http::Uri;

/// Characters of an endpoint.
const MAX_CHARS: usize = 2_048;

/// A URL in its parts, in one form: two texts that lead to the same place are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`.
    pub is_tls: bool,
    /// The host in small letters; brackets around an IPv6 address.
    pub host: String,
    /// The port, also where it is the scheme's.
    pub port: u16,
    /// The path and the query.
    pub path_and_query: String,
    path: String,
}

impl Endpoint {
    /// Reads an absolute URL without user, fragment and steps that lead out of its path.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_CHARS || text.contains('#') || text.contains('@') {
            return Err("the endpoint is a short URL without a user and a fragment");
        }
        let uri: Uri = text.parse().map_err(|_| "the endpoint is no URL")?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the endpoint begins with https://"),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or("the endpoint names a host")?;
        let path = uri.path().to_owned();
        if path.split('/').any(is_step) || has_hidden_step(&path) {
            return Err(
                "the path of the endpoint has no steps such as .. and nothing that hides one",
            );
        }
        Ok(Self {
            is_tls,
            host: host.to_ascii_lowercase().trim_end_matches('.').to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            path_and_query: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            path,
        })
    }

    /// Whether another URL is this one or below it.
    pub fn covers(&self, other: &Self) -> bool {
        let same = (self.is_tls, &self.host, self.port) == (other.is_tls, &other.host, other.port);
        let below = other.path.strip_prefix(&self.path);
        same && below.is_some_and(|rest| {
            rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/')
        })
    }

    /// The host as it is resolved, and as its certificate names it.
    pub fn host_to_resolve(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// `Host`: with the port where it is not the scheme's.
    pub fn authority(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

fn is_step(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// Dots and slashes that are written in another way.
fn has_hidden_step(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2e", "%2f", "%5c", "\\", "//"]
        .iter()
        .any(|hidden| path.contains(hidden))
}
