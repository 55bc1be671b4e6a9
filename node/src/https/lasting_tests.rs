//! An answer without an end lasts for as long as its client reads it, and no longer than the node.
use super::*;
use crate::{
    admission::Admission,
    https::{
        App, LIMITS, Rules, TIMEOUTS, Timeouts,
        long::LongBodies,
        tests::{Server, start_by},
    },
};
use axum::{Router, response::Response, routing::get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep};

/// In which each piece is to be read.
const ANSWER: Duration = Duration::from_secs(2);
/// Pieces, half a second apart: together longer than the time of one answer.
const PIECES: usize = 6;
const APART: Duration = Duration::from_millis(500);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Pieces of some bytes with pauses between them.
struct Pieces {
    left: usize,
    bytes: usize,
    pause: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.left -= 1;
        self.sleep = Box::pin(sleep(self.pause));
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; self.bytes].into()))))
    }
}

async fn serve(pieces: usize, bytes: usize, pause: Duration, lasts: bool) -> Server {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: Timeouts {
            answer: ANSWER,
            ..TIMEOUTS
        },
        clients: None,
        long: Arc::new(LongBodies::new(1, 1)),
    };
    let say = move || async move {
        let mut response = Response::new(Body::new(Pieces {
            left: pieces,
            bytes,
            pause,
            sleep: Box::pin(sleep(pause)),
        }));
        if lasts {
            response.extensions_mut().insert(Lasting);
        }
        response
    };
    start_by(rules, |_| App::from(Router::new().route("/", get(say)))).await
}

/// How many bytes of the body are heard before the connection ends.
async fn heard(server: &Server) -> usize {
    let mut stream = server.dial().await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut text = Vec::new();
    let _cut_off = stream.read_to_end(&mut text).await;
    let end = text
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap();
    text[end..].iter().filter(|byte| **byte == b'x').count()
}

#[tokio::test]
async fn a_stream_that_is_read_goes_on_behind_the_time_of_one_answer() {
    let server = serve(PIECES, 1, APART, true).await;
    assert_eq!(heard(&server).await, PIECES);
    let server = serve(PIECES, 1, APART, false).await;
    assert!(
        heard(&server).await < PIECES,
        "an answer that is none is cut off"
    );
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_cut_off() {
    const BYTES: usize = 1 << 20;
    // More than sockets and buffers hold: 1 GiB, if somebody read it.
    const MANY: usize = 1 << 10;
    let server = serve(MANY, BYTES, Duration::ZERO, true).await;
    let mut stream = server.dial().await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    sleep(3 * ANSWER).await;
    let (mut read, mut some) = (0, vec![0; BYTES]);
    while let Ok(bytes @ 1..) = stream.read(&mut some).await {
        read += bytes;
    }
    assert!(read < MANY * BYTES, "{read} bytes");
}

#[tokio::test]
async fn a_stream_ends_with_the_node() {
    let server = serve(usize::MAX, 1, Duration::from_millis(1), true).await;
    let stop = server.stop.clone();
    let (heard, ()) = tokio::join!(heard(&server), async {
        sleep(APART).await;
        stop.cancel();
    });
    assert!(heard > 0);
}
