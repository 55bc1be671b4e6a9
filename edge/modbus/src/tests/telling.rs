//! What a device is told, between two reads.
use super::*;
use commands::Reason;
use tokio::sync::mpsc;
use types::Id128;

/// The first register of a monitor's interval, in ms, two words.
const INTERVAL: u16 = 64;

/// Lower and upper alarm limit of the heart rate, as the monitor's profile writes them.
const LIMITS: [(u16, bool); 2] = [(66, false), (67, true)];

fn told(id: u8, until: Instant, answer: &mpsc::Sender<(Id128, Result<(), Reason>)>) -> Told {
    let interval_ms = 1_000 * u32::from(id);
    let write = format!("address = {INTERVAL}\nwords = 2\nconstant = {interval_ms}");
    Told {
        id: Id128::from_bytes([id; 16]),
        what: What::Writes(vec![(toml::from_str(&write).unwrap(), interval_ms.into())]),
        until,
        answer: answer.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_time_ended_while_it_waited_for_the_line_is_not_written() {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let device: DeviceId = "m1".parse().unwrap();
    facility.writes = Writes::to(std::iter::once(&device));
    facility.simulate(Source::Physiology);
    facility.bridge();
    facility.flows("m1", 1).await;
    let (answer, mut answers) = mpsc::channel(2);
    let (now, later) = (Instant::now(), Instant::now() + DEADLINE);
    let told = |id, until| facility.writes.tell(&device, told(id, until, &answer));
    told(2, now).unwrap();
    told(3, later).unwrap();
    let mut said = Vec::new();
    for _ in 0..2 {
        let heard = tokio::time::timeout(DEADLINE, answers.recv()).await;
        said.push(heard.unwrap().unwrap());
    }
    let id = |id: u8| Id128::from_bytes([id; 16]);
    assert_eq!(said, [(id(2), Err(Reason::Stale)), (id(3), Ok(()))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_out_of_order_are_refused_by_the_device_and_both_of_them_come_in_one_request()
 {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let device: DeviceId = "m1".parse().unwrap();
    facility.writes = Writes::to(std::iter::once(&device));
    facility.simulate(Source::Physiology);
    facility.bridge();
    facility.flows("m1", 1).await;
    let (answer, mut answers) = mpsc::channel(2);
    for (id, limits, expected) in [
        (1, [Some(50), Some(120)], Ok(())),
        (2, [Some(120), None], Err(Reason::OverRange)),
        (3, [None, Some(50)], Err(Reason::OverRange)),
        // Both above what stands: one after the other the first would be refused.
        (4, [Some(150), Some(200)], Ok(())),
        (5, [Some(60), Some(100)], Ok(())),
    ] {
        let given = LIMITS.into_iter().zip(limits);
        let writes = given.filter_map(|((address, joined), limit)| {
            let write = format!("address = {address}\nconstant = 0\njoined = {joined}");
            Some((toml::from_str(&write).unwrap(), limit?))
        });
        let told = Told {
            id: Id128::from_bytes([id; 16]),
            what: What::Writes(writes.collect()),
            until: Instant::now() + DEADLINE,
            answer: answer.clone(),
        };
        facility.writes.tell(&device, told).unwrap();
        let heard = tokio::time::timeout(DEADLINE, answers.recv()).await;
        let heard = heard.unwrap().unwrap();
        assert_eq!(heard, (Id128::from_bytes([id; 16]), expected));
    }
}

/// A device that reads as zeros and takes whatever is written; `heard` is told the function and the address of each request,
/// and says whether it is answered.
async fn plain_device(listener: TcpListener, mut heard: impl FnMut(u8, u16) -> bool + Send) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = [0; 8];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 2];
        stream.read_exact(&mut rest).await.unwrap();
        if !heard(head[7], u16::from_be_bytes([rest[0], rest[1]])) {
            continue;
        }
        let mut pdu = vec![head[7]];
        if head[7] == 16 {
            pdu.extend_from_slice(&rest[..4]);
        } else {
            pdu.push(2 * rest[3]);
            pdu.resize(2 + 2 * usize::from(rest[3]), 0);
        }
        answered(&mut stream, &head, &pdu).await;
    }
}

/// Answers a request of this head.
async fn answered(stream: &mut tokio::net::TcpStream, head: &[u8; 8], pdu: &[u8]) {
    let mut answer = head[..4].to_vec();
    answer.extend(u16::try_from(pdu.len() + 1).unwrap().to_be_bytes());
    answer.push(head[6]);
    answer.extend(pdu);
    stream.write_all(&answer).await.unwrap();
}

/// A device that keeps whatever is written to it.
async fn keeping_device(listener: TcpListener, kept: Arc<Mutex<BTreeMap<u16, u16>>>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = [0; 8];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 2];
        stream.read_exact(&mut rest).await.unwrap();
        let word = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        let registers = word(0)..word(0) + word(2);
        let mut pdu = vec![head[7]];
        if head[7] == 16 {
            let words = (5..).step_by(2).map(word);
            kept.lock().extend(registers.zip(words));
            pdu.extend_from_slice(&rest[..4]);
        } else {
            pdu.push(2 * rest[3]);
            let kept = kept.lock();
            for register in registers {
                pdu.extend(kept.get(&register).copied().unwrap_or(0).to_be_bytes());
            }
        }
        answered(&mut stream, &head, &pdu).await;
    }
}

/// Polls `p1` once: these registers, each by a request of its own.
async fn poll_plain(facility: &mut Facility, registers: &[u16], more: &str) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    facility.device("p1", "plain", 1, address);
    let device: DeviceId = "p1".parse().unwrap();
    facility.writes = Writes::to(std::iter::once(&device));
    let mut text = format!(
        "name = 'plain'\nmodel = 'plain'\ninterval = '1h'\ntimeout = '1s'\nstale_after = '1m'\nlate_after = '1m'\n{more}\n"
    );
    for register in registers {
        text += &format!(
            "[[points]]\ncode = 'urn:medmesh:code|relative-humidity'\nunit = '%'\nspace = 'input'\naddress = {register}\ntype = 'u16'\n"
        );
    }
    let mut profiles = Profiles::default();
    profiles.insert(toml::from_str(&text).unwrap());
    let bridge = Bridge {
        devices: facility.devices.clone(),
        profiles,
        journal: facility.journal.clone(),
        clock: Clock::new(Some(facility.clock)),
        boot: 1,
        observer: facility.seen.clone(),
        conditions: Arc::new(Conditions::new(facility.health.optional("devices"))),
        writes: facility.writes.clone(),
    };
    facility.spawn(move |stop| async move { run(bridge, stop).await.unwrap() });
    listener
}

/// One register is written, and not read back.
fn one_write(answer: &mpsc::Sender<(Id128, Result<(), Reason>)>) -> Told {
    let write = "address = 64\nconstant = 1\nread_back = false";
    Told {
        id: Id128::from_bytes([1; 16]),
        what: What::Writes(vec![(toml::from_str(write).unwrap(), 1)]),
        until: Instant::now() + DEADLINE,
        answer: answer.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_more_to_read_is_told_before_the_next_read() {
    let mut facility = Facility::new(1.0);
    let listener = poll_plain(&mut facility, &[1, 100, 200], "").await;
    let (answer, mut answers) = mpsc::channel(1);
    let mut waiting = Some(one_write(&answer));
    let writes = facility.writes.clone();
    let asked: Arc<Mutex<Vec<(u8, u16)>>> = Arc::default();
    let log = asked.clone();
    let heard = move |function, address| {
        log.lock().push((function, address));
        // The second of three reads is under way.
        if address == 100
            && let Some(told) = waiting.take()
        {
            writes.tell(&"p1".parse().unwrap(), told).unwrap();
        }
        true
    };
    facility.spawn(move |_| plain_device(listener, heard));
    let said = tokio::time::timeout(DEADLINE, answers.recv()).await;
    assert_eq!(said.unwrap().unwrap().1, Ok(()));
    // It is asked whether it is there, and told.
    let first: Vec<_> = asked.lock().iter().take(4).copied().collect();
    assert_eq!(first, [(4, 1), (4, 100), (4, 1), (16, 64)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_loses_the_first_request_after_a_pause_is_told() {
    let mut facility = Facility::new(1.0);
    let timing = "[timing]\nfirst_request_lost = true";
    let listener = poll_plain(&mut facility, &[1], timing).await;
    let is_asleep = Arc::new(AtomicBool::new(false));
    let asleep = is_asleep.clone();
    let heard = move |_, _| !asleep.swap(false, Ordering::Relaxed);
    facility.spawn(move |_| plain_device(listener, heard));
    let is_read = || facility.journal.count("p1") == 1;
    eventually("it is read, and pauses for an hour", is_read).await;
    is_asleep.store(true, Ordering::Relaxed);
    let (answer, mut answers) = mpsc::channel(1);
    let device: DeviceId = "p1".parse().unwrap();
    facility.writes.tell(&device, one_write(&answer)).unwrap();
    let said = tokio::time::timeout(DEADLINE, answers.recv()).await;
    assert_eq!(said.unwrap().unwrap().1, Ok(()));
    assert!(!is_asleep.load(Ordering::Relaxed), "a request was lost");
}

/// Limits of a device that checks nothing by itself.
const OWN_LIMITS: &str = r#"
    [[command]]
    name = "set-limits"
    property = "limits"
    parameters = [
        { name = "low", type = "integer", range = [1, 300], optional = true, below = "high" },
        { name = "high", type = "integer", range = [1, 300], optional = true },
    ]
    write = [{ parameter = "low", address = 66 }, { parameter = "high", address = 67 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_given_alone_is_judged_by_what_the_device_has_when_it_is_told() {
    let mut facility = Facility::new(1.0);
    let listener = poll_plain(&mut facility, &[1], OWN_LIMITS).await;
    let kept = Arc::new(Mutex::new(BTreeMap::from([(66, 50), (67, 100)])));
    let device = kept.clone();
    facility.spawn(move |_| keeping_device(listener, device));
    let table = commands::Table::read(OWN_LIMITS).unwrap();
    let entry = table.entry("set-limits").unwrap();
    let (answer, mut answers) = mpsc::channel(1);
    let device: DeviceId = "p1".parse().unwrap();
    for (high, low, expected) in [
        (100, 90, Ok(())),
        // Somebody has lowered the high one at the bedside, and nothing was read since.
        (80, 85, Err(Reason::OverRange)),
        (160, 150, Ok(())),
    ] {
        let before = {
            let mut kept = kept.lock();
            kept.insert(67, high);
            kept[&66]
        };
        let given = commands::Value::Number(types::Decimal::from_parts(low, 0));
        let parameters = BTreeMap::from([("low".to_owned(), given)]);
        let told = Told {
            id: Id128::from_bytes([1; 16]),
            what: What::Beside(Box::new(entry.clone()), parameters),
            until: Instant::now() + DEADLINE,
            answer: answer.clone(),
        };
        facility.writes.tell(&device, told).unwrap();
        let said = tokio::time::timeout(DEADLINE, answers.recv()).await;
        assert_eq!(said.unwrap().unwrap().1, expected, "{low}");
        let after = match expected {
            Ok(()) => u16::try_from(low).unwrap(),
            Err(_) => before,
        };
        assert_eq!(kept.lock()[&66], after);
    }
}
