//! Answers without an end, such as server-sent events: a connection keeps its place for as long as its client reads.
use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A handler puts this into the extensions of a response whose body goes on: each piece of it, and not the whole, is to
/// be read within the time of an answer. The body must say something more often than that, if only a comment.
#[derive(Clone, Copy, Debug)]
pub struct Lasting;

/// A body that ends with the node, and moves the deadline with each of its pieces.
pub(super) struct Paced {
    body: Body,
    deadline: Arc<watch::Sender<Instant>>,
    span: Duration,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Paced {
    pub(super) fn of(
        body: Body,
        deadline: Arc<watch::Sender<Instant>>,
        span: Duration,
        stop: CancellationToken,
    ) -> Body {
        Body::new(Self {
            body,
            deadline,
            span,
            stop: Box::pin(stop.cancelled_owned()),
        })
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body.frame()).poll(context);
        if polled.is_ready() {
            // A client that does not read is not asked for: hyper takes no further piece while its buffer is full.
            self.deadline.send_replace(Instant::now() + self.span);
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
#[path = "lasting_tests.rs"]
mod tests;
