//! How long a message of the link may take to arrive: from its first byte to its last, whatever trickles in between.
//!
//! gRPC collects a message until it is whole (up to [`MAX_MESSAGE_BYTES`](super::MAX_MESSAGE_BYTES)), so a peer that
//! sends a byte a second would hold that much for days. A stream between two messages may be silent as long as its
//! connection answers HTTP/2 pings.
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, Service, http},
};

/// A message that is not whole by then ends its stream. As long as a sender waits for a receipt before it takes the
/// link for broken.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A flag and the message's length (gRPC over HTTP2, Length-Prefixed-Message).
const PREFIX_BYTES: usize = 5;

/// Where in a sequence of length-prefixed messages a stream stands.
#[derive(Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    message_bytes_left: u64,
}

impl Framing {
    /// Takes the next bytes; says whether a message ended among them.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while let Some((first, rest)) = bytes.split_first() {
            if self.message_bytes_left > 0 {
                let taken = usize::try_from(self.message_bytes_left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.message_bytes_left -= taken as u64;
                bytes = bytes.get(taken..).unwrap_or_default();
                ended |= self.message_bytes_left == 0;
                continue;
            }
            if let Some(byte) = self.prefix.get_mut(self.prefix_bytes) {
                *byte = *first;
            }
            self.prefix_bytes += 1;
            bytes = rest;
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, a, b, c, d] = self.prefix;
                self.message_bytes_left = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.prefix_bytes = 0;
                ended |= self.message_bytes_left == 0;
            }
        }
        ended
    }

    const fn is_within_a_message(&self) -> bool {
        self.prefix_bytes > 0 || self.message_bytes_left > 0
    }
}

/// The body of a request whose messages must be whole in time.
struct Paced {
    body: Body,
    framing: Framing,
    limit: Duration,
    due: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(frame) = polled else {
            if let Some(due) = &mut self.due {
                ready!(due.as_mut().poll(cx));
                self.due = None;
                metrics::counter!("medmesh_link_late_total", "step" => "message").increment(1);
                return Poll::Ready(Some(Err(late())));
            }
            return Poll::Pending;
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let ended = self.framing.take(data);
            if !self.framing.is_within_a_message() {
                self.due = None;
            } else if ended || self.due.is_none() {
                self.due = Some(Box::pin(tokio::time::sleep(self.limit)));
            }
        }
        Poll::Ready(frame)
    }
}

fn late() -> Status {
    Status::deadline_exceeded("a message was not whole in time")
}

/// Gives every request of a service such a body.
#[derive(Clone)]
pub(super) struct PacedService<S> {
    inner: S,
    limit: Duration,
}

impl<S> PacedService<S> {
    pub(super) const fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<S, R> Service<http::Request<Body>> for PacedService<S>
where
    S: Service<http::Request<Body>, Response = R, Error = Infallible>,
{
    type Response = R;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let limit = self.limit;
        self.inner.call(request.map(|body| {
            Body::new(Paced {
                body,
                framing: Framing::default(),
                limit,
                due: None,
            })
        }))
    }
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for PacedService<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let stream = [0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        for size in 1..=stream.len() {
            let mut framing = Framing::default();
            let ended = stream
                .chunks(size)
                .filter(|chunk| framing.take(chunk))
                .count();
            assert!((1..=3).contains(&ended), "{size}");
            assert!(!framing.is_within_a_message(), "{size}");
        }
        let mut framing = Framing::default();
        assert!(!framing.take(&stream[..7]) && framing.is_within_a_message());
        assert!(framing.take(&stream[7..9]) && framing.is_within_a_message());
    }
}
