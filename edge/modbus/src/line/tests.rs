//! The shell over real sockets: names, connections that end, RTU through a device server, bits.
use super::*;
use crate::{
    plan::{Read, Space},
    talk::{Barrier, Pace},
    wire::Ask,
};
use tokio::net::TcpListener;

const PACE: Pace = Pace {
    timeout: 10_000_000,
    after_connect: 0,
    between_requests: 0,
    longest_answer: 60_000_000,
    copies_within: 500_000,
    reconnect_after: 2,
};

async fn ask(
    line: &Line,
    space: Space,
    address: u16,
    count: u16,
    barrier: Option<&Barrier>,
) -> Answer {
    let ask = Ask::Read(Read {
        space,
        address,
        count,
    });
    let question = Question {
        unit: 1,
        ask: &ask,
        barrier,
        pace: &PACE,
    };
    line.ask(&question).await
}

/// A listener, and the address of a line to it by this scheme and name.
async fn served(scheme: &str, host: &str) -> (TcpListener, Line) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address: Address = format!("{scheme}://{host}:{port}").parse().unwrap();
    (listener, Line::new(address, 0xfffe))
}

/// Each answer in a connection of its own, which ends after it.
#[tokio::test]
async fn a_device_that_ends_each_connection_is_read_by_its_name_without_a_failure() {
    let (listener, line) = served("tcp", "localhost").await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 12];
            stream.read_exact(&mut request).await.unwrap();
            // The answer of the request before, and bits: the third of eleven is set.
            let old = [&request[..1], &[0x77], &request[2..4], &[0, 3, 1, 0x82, 4]].concat();
            let right = [&request[..4], &[0, 5, 1, 2, 2, 4, 0]].concat();
            stream.write_all(&old).await.unwrap();
            stream.write_all(&right).await.unwrap();
        }
    });
    let expected = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    for _ in 0..4 {
        let answer = ask(&line, Space::Discrete, 5, 11, None).await;
        assert_eq!(answer, Answer::Registers(expected.clone()));
    }
}

#[tokio::test]
async fn rtu_frames_go_through_a_device_server_and_noise_before_them_is_passed_over() {
    let (listener, line) = served("rtu+tcp", "127.0.0.1").await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        for value in 1..=5 {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            asked.push(request[1]);
            let body = if request[1] == 3 {
                vec![1, 0x83, 2]
            } else {
                vec![1, 4, 2, 0, value]
            };
            let crc = device_fw::frame::crc16(&body).to_le_bytes();
            let answer = [&[0, 0xff][..], &body, &crc].concat();
            stream.write_all(&answer).await.unwrap();
        }
        asked
    });
    let barrier = Barrier {
        space: Space::Holding,
        address: 7,
        counts: vec![1, 2],
        alone: true,
    };
    for value in [1, 3, 4, 5] {
        let answer = ask(&line, Space::Input, 7, 1, Some(&barrier)).await;
        assert_eq!(answer, Answer::Registers(vec![value]));
    }
    // Once, while it owes nothing, it was found out that it answers barriers.
    assert_eq!(server.await.unwrap(), [4, 3, 4, 4, 4]);
}

#[tokio::test]
async fn nobody_at_the_other_end_is_a_broken_connection() {
    let (listener, line) = served("tcp", "127.0.0.1").await;
    drop(listener);
    let answer = ask(&line, Space::Input, 1, 1, None).await;
    assert_eq!(answer, Answer::Broken);
    assert_eq!(tell(&line).await, None, "nothing was sent");
}

/// A write that must not be done twice.
async fn tell(line: &Line) -> Option<Answer> {
    let question = Question {
        unit: 1,
        ask: &Ask::Write {
            address: 7,
            words: vec![1],
        },
        barrier: None,
        pace: &PACE,
    };
    line.tell(&question).await
}

#[tokio::test]
async fn what_must_not_be_done_twice_is_not_sent_again_on_a_new_connection() {
    let (listener, line) = served("tcp", "127.0.0.1").await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 12];
        stream.read_exact(&mut read).await.unwrap();
        let answer = [&read[..4], &[0, 5, 1, 4, 2, 0, 9]].concat();
        stream.write_all(&answer).await.unwrap();
        // It takes the write, and is gone before it answers.
        let mut write = [0; 15];
        stream.read_exact(&mut write).await.unwrap();
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut read).await.unwrap();
        read[7]
    });
    let answer = ask(&line, Space::Input, 7, 1, None).await;
    assert_eq!(answer, Answer::Registers(vec![9]));
    assert_eq!(tell(&line).await, Some(Answer::Broken));
    let _unanswered = ask(&line, Space::Input, 7, 1, None).await;
    assert_eq!(server.await.unwrap(), 4, "the next request is another one");
}
