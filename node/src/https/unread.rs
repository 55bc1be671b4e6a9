//! Words for requests that no route sees: a header that is too long, or bytes that are no request.
//!
//! hyper answers those itself, with a status and no body. A listener whose clients expect every error in a format of
//! their own says here what the body is; it is put into hyper's answer on its way out.
use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the answer to such a request says.
#[derive(Clone, Copy, Debug)]
pub struct Unread {
    /// Its media type.
    pub content_type: &'static str,
    /// Its body, by status.
    pub body: fn(StatusCode) -> String,
}

impl Unread {
    /// A whole answer of our own.
    pub(super) fn answer(words: Option<Self>, status: StatusCode) -> Response<Body> {
        let Some(Self { content_type, body }) = words else {
            return status.into_response();
        };
        let kind = HeaderValue::from_static(content_type);
        (status, [(header::CONTENT_TYPE, kind)], body(status)).into_response()
    }

    /// hyper's answer with a body; none when the bytes are something else.
    fn worded(self, bytes: &[u8]) -> Option<Vec<u8>> {
        const LENGTH: &str = "content-length: 0\r\n";
        let text = std::str::from_utf8(bytes).ok()?;
        let rest = text
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| text.strip_prefix("HTTP/1.0 "))?;
        let status = match rest.get(..3)? {
            "400" => StatusCode::BAD_REQUEST,
            "414" => StatusCode::URI_TOO_LONG,
            "431" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => return None,
        };
        let head = text.strip_suffix("\r\n\r\n")?;
        if !text.contains(LENGTH) || head.contains("\r\n\r\n") {
            return None;
        }
        let body = (self.body)(status);
        let fields = format!(
            "content-type: {}\r\ncontent-length: {}\r\n",
            self.content_type,
            body.len()
        );
        Some(
            text.replacen(LENGTH, &fields, 1)
                .into_bytes()
                .into_iter()
                .chain(body.into_bytes())
                .collect(),
        )
    }
}

/// A stream on which hyper's own answers get their words.
pub(super) struct Worded<T> {
    stream: T,
    words: Option<Unread>,
    /// What is to be written before anything else.
    waiting: Vec<u8>,
}

impl<T> Worded<T> {
    pub(super) const fn new(stream: T, words: Option<Unread>) -> Self {
        Self {
            stream,
            words,
            waiting: Vec::new(),
        }
    }
}

impl<T: AsyncWrite + Unpin> Worded<T> {
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the bytes are an answer of hyper's; then it waits, with its words.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let worded = self.words.and_then(|words| words.worded(bytes));
        let is_hypers = worded.is_some();
        self.waiting.extend(worded.unwrap_or_default());
        is_hypers
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Worded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Worded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(context))?;
        if self.takes(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(context))?;
        if let [only] = slices
            && self.takes(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Unread = Unread {
        content_type: "text/plain",
        body: |status| status.as_u16().to_string(),
    };

    #[test]
    fn an_answer_without_a_body_gets_one_and_every_other_stays_as_it_is() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let worded = WORDS
            .worded(bare.as_bytes())
            .map(|bytes| String::from_utf8(bytes).unwrap());
        let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 3\r\ndate: x\r\n\r\n431";
        assert_eq!(worded.as_deref(), Some(expected));
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "content-length: 0\r\n\r\n",
            "",
        ] {
            assert_eq!(WORDS.worded(other.as_bytes()), None, "{other}");
        }
    }
}
