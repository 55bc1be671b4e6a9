//! A client made of bytes: it can say what no well-behaved client says.
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a test looks whether something comes that must not; a slow machine can only hide a defect, not invent one.
pub(super) const LOOK: Duration = Duration::from_millis(150);

pub(super) const V4: u8 = 4;
pub(super) const V5: u8 = 5;

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 128 {
        packet.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    packet.push(length as u8);
    packet.extend_from_slice(body);
    packet
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut block = (text.len() as u16).to_be_bytes().to_vec();
    block.extend_from_slice(text.as_bytes());
    block
}

/// A CONNECT and its options.
#[derive(Clone)]
pub(super) struct Connect {
    pub(super) level: u8,
    pub(super) id: String,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    /// v5 properties, encoded.
    pub(super) properties: Vec<u8>,
    /// Topic, message, retain, v5 properties.
    pub(super) will: Option<(String, String, bool, Vec<u8>)>,
    pub(super) password: Option<String>,
}

impl Connect {
    pub(super) fn new(level: u8, id: &str) -> Self {
        Self {
            level,
            id: id.into(),
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
            password: None,
        }
    }

    /// A session that outlives the connection.
    pub(super) fn lasting(level: u8, id: &str) -> Self {
        let mut connect = Self::new(level, id);
        connect.clean = false;
        connect.properties = vec![0x11, 0, 0, 0, 100];
        connect
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut body = text("MQTT");
        if self.password.is_some() {
            // With a user name, which 3.1.1 asks for.
            flags |= 0xc0;
        }
        if let Some((_, _, retain, _)) = &self.will {
            flags |= 0x04 | 0x08 | u8::from(*retain) << 5;
        }
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.level == V5 {
            body.push(self.properties.len() as u8);
            body.extend(&self.properties);
        }
        body.extend(text(&self.id));
        if let Some((topic, message, _, properties)) = &self.will {
            if self.level == V5 {
                body.push(properties.len() as u8);
                body.extend(properties);
            }
            body.extend(text(topic));
            body.extend(text(message));
        }
        if let Some(password) = &self.password {
            body.extend(text("anybody"));
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

/// PUBLISH: `flags` are DUP, QoS and RETAIN as on the wire.
pub(super) fn publish(level: u8, flags: u8, pkid: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    publish_with(level, flags, pkid, topic, &[], payload)
}

pub(super) fn publish_with(
    level: u8,
    flags: u8,
    pkid: u16,
    topic: &str,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 6 != 0 {
        body.extend(pkid.to_be_bytes());
    }
    if level == V5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(payload);
    packet(0x30 | flags, &body)
}

/// SUBSCRIBE with one options byte per filter.
pub(super) fn subscribe(level: u8, pkid: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = pkid.to_be_bytes().to_vec();
    body.extend(if level == V5 { &[0][..] } else { &[] });
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// What a PUBLISH of the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) flags: u8,
    pub(super) pkid: u16,
    pub(super) topic: String,
    pub(super) payload: String,
    /// v5 properties, encoded.
    pub(super) properties: Vec<u8>,
}

/// Reads a PUBLISH as a client would.
pub(super) fn got(level: u8, packet: &[u8]) -> Got {
    assert_eq!(packet[0] >> 4, 3, "not a PUBLISH: {packet:02x?}");
    let digits = packet[1..]
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .unwrap()
        + 1;
    let body = &packet[1 + digits..];
    let (length, body) = body.split_first_chunk::<2>().unwrap();
    let (topic, mut body) = body.split_at(usize::from(u16::from_be_bytes(*length)));
    let flags = packet[0] & 0x0f;
    let mut pkid = 0;
    if flags & 6 != 0 {
        pkid = u16::from_be_bytes([body[0], body[1]]);
        body = &body[2..];
    }
    let mut properties = Vec::new();
    if level == V5 {
        let length = usize::from(body[0]);
        assert!(length < 128, "longer properties than a test has");
        properties = body[1..=length].to_vec();
        body = &body[1 + length..];
    }
    Got {
        properties,
        flags,
        pkid,
        topic: String::from_utf8(topic.to_vec()).unwrap(),
        payload: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(super) struct Raw {
    pub(super) stream: TlsStream<TcpStream>,
    input: Vec<u8>,
}

impl Raw {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream,
            input: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Breaks the connection: no DISCONNECT, no end of TLS.
    pub(super) async fn cut(&mut self) {
        let _ = self.stream.get_mut().0.shutdown().await;
    }

    /// The next packet; `None` when the server closed.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.read_packet())
            .await
            .expect("nothing came")
    }

    async fn read_packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = whole(&self.input) {
                let rest = self.input.split_off(length);
                return Some(std::mem::replace(&mut self.input, rest));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Nothing comes and the connection stays open, as far as one look shows.
    pub(super) async fn quiet(&mut self) {
        if let Ok(came) = timeout(LOOK, self.read_packet()).await {
            panic!("came: {came:02x?}");
        }
    }

    pub(super) async fn expect(&mut self, bytes: &[u8]) {
        let came = self.next().await;
        assert_eq!(
            came.as_deref(),
            Some(bytes),
            "{came:02x?}, not {bytes:02x?}"
        );
    }

    pub(super) async fn closed(&mut self) {
        let came = self.next().await;
        assert_eq!(came, None, "{came:02x?}");
    }
}

fn whole(input: &[u8]) -> Option<usize> {
    let digits = input.get(1..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let length = (0..digits).fold(0, |sum, at| {
        sum | usize::from(input[1 + at] & 0x7f) << (7 * at)
    });
    (input.len() > digits + length).then_some(1 + digits + length)
}
