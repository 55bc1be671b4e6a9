//! What is killed at every step between region, edge and device, over the real store: nothing is carried out twice, and the
//! region hears how each command ended.
use super::*;
use crate::{
    config::DeviceConfig,
    control::{NoAnswer, Results, intake, rows},
};
use commands::{Answer, Command, Signed, Value, withdrawal};
use ed25519_dalek::SigningKey;
use federation::port::{LeaseLimits, Outbox as _};
use ingest::Journal as _;
use messages::CommandReports;
use modbus::Profiles;
use parking_lot::Mutex;
use prost::Message as _;
use std::path::Path;
use store::{
    DeviceFacts, StoreOptions,
    testbed::{hand, options, sample},
};
use tempfile::TempDir;
use types::{CatalogId, DeviceKind, Place, Priority};

const MONITOR: &str = "m1";
const LAB: &str = "lab";

/// An MQTT device that keeps what it is told.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Tell for Heard {
    fn is_connected(&self, _: &DeviceId) -> bool {
        true
    }

    fn tell(&self, _: &DeviceId, message: Bytes, _: Duration) {
        let signed = Signed::from_json(&message).unwrap();
        self.0.lock().push(signed.command().id.to_string());
    }
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn config(name: &str, kind: DeviceKind) -> DeviceConfig {
    DeviceConfig {
        id: id(name),
        kind,
        serial: None,
        model: None,
        firmware: None,
        bed: None,
        profile: None,
        address: None,
        unit_id: 1,
    }
}

fn control() -> Arc<Control> {
    let devices = [
        config(MONITOR, DeviceKind::BedsideMonitor),
        // Its table has a command of safety.
        config(LAB, DeviceKind::External),
    ];
    Control::new(&devices, &Profiles::default())
}

/// One run of the node over a directory, from its start to its kill.
struct Run {
    heard: Arc<Heard>,
    dispatch: Dispatch,
}

impl Run {
    fn over(dir: &Path) -> Self {
        let mut options = options(dir, hand());
        options.devices.push(DeviceFacts {
            id: id(LAB),
            kind: DeviceKind::LabAnalyser,
            bed: None,
            limits: DeviceFacts::DEFAULT_LIMITS,
            serial: None,
        });
        let store = Store::open(StoreOptions { ..options }).unwrap();
        let heard = Arc::<Heard>::default();
        let dispatch = Dispatch {
            store,
            control: control(),
            tell: Arc::clone(&heard) as _,
            writes: Writes::to([id(MONITOR), id(LAB)].iter()),
        };
        Self { heard, dispatch }
    }

    const fn store(&self) -> &Store {
        &self.dispatch.store
    }

    /// The node is killed: nothing but what is on its disk is left.
    async fn killed(self, dir: &Path) -> Self {
        self.store().close().await;
        drop(self);
        Self::over(dir)
    }

    /// The region's command comes down, or comes down again.
    async fn comes(&self, signed: &Signed) {
        let (control, signed) = (control(), signed.clone());
        let key = region().verifying_key();
        let step =
            move |commit: &mut Commit<'_, '_>| intake::take(&control, commit, &signed, Some(key));
        self.store().in_commit(step).await.unwrap();
    }

    async fn catalog(&self, name: &str) -> CatalogId {
        // A device is known from its first sample on.
        self.store().append(sample(name, 1)).await.unwrap();
        let name = id(name);
        let read = move |commit: &mut Commit<'_, '_>| rows::catalog_of(commit.tx(), &name);
        let found = self.store().in_commit(read).await.unwrap();
        found.expect("the device is known")
    }

    /// What is handed on by a look.
    async fn looks(&self) -> usize {
        self.looks_after(&[]).await
    }

    /// The same when these were handed on so often and are not answered.
    async fn looks_after(&self, unanswered: &[(Id128, u32)]) -> usize {
        let unanswered = unanswered.iter().copied().collect();
        let (_, next) = self
            .dispatch
            .look(&BTreeSet::new(), &unanswered)
            .await
            .unwrap();
        let count = next.len();
        let (told, _answers) = mpsc::channel(MAX_TOLD);
        let (mut sent, mut writing) = (BTreeMap::new(), BTreeSet::new());
        for next in next {
            self.dispatch.hand_on(next, &mut sent, &mut writing, &told);
        }
        count
    }

    /// The MQTT device says that it carried a command out.
    async fn answers(&self, signed: &Signed) {
        let command = signed.command();
        let answer = Answer {
            command: command.id,
            device: command.device,
            sequence: command.sequence,
            state: State::Acknowledged,
            reason: None,
            time: command.issued,
        };
        let (certificate, signature) = signed_by_device(&answer);
        let message = answer.to_json(&signature).to_string();
        let results = Results {
            store: self.store().clone(),
            control: control(),
        };
        let device = id(LAB);
        let taken = results.take(&device, &certificate, message.as_bytes());
        assert_eq!(taken.await, Ok(()));
    }

    /// Every end that the region is told of.
    async fn told(&self) -> Vec<String> {
        let region: Place = "regional/eu/eu".parse().unwrap();
        let limits = LeaseLimits {
            parcels: 100,
            bytes: 1 << 20,
        };
        let leased = self.store().lease(&region, Priority::Live, limits).await;
        let leased = leased.unwrap();
        self.store().release(&region).await.unwrap();
        let reports = leased.iter().filter(|it| it.kind == "CommandReports");
        let reports = reports.flat_map(|it| CommandReports::decode(&it.body[..]).unwrap().reports);
        reports
            .filter(|report| report.state != "delivered")
            .map(|report| format!("{} {}", report.state, report.reason))
            .collect()
    }
}

fn region() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

async fn command(run: &Run, device: &str) -> Signed {
    let interval = ("interval".to_owned(), Value::Text("5s".into()));
    of(run, device, 5, ("set-interval", BTreeMap::from([interval]))).await
}

async fn of(
    run: &Run,
    device: &str,
    number: u8,
    (name, parameters): (&str, BTreeMap<String, Value>),
) -> Signed {
    let now = run
        .store()
        .in_commit(|commit| Ok(commit.now().real))
        .await
        .unwrap();
    let command = Command {
        id: Id128::from_bytes([number; 16]),
        facility: "edge/eu/eu/eu-f1".parse().unwrap(),
        device: run.catalog(device).await,
        sequence: number.into(),
        name: name.parse().unwrap(),
        parameters,
        issued: now,
        expires: now.plus_ms(60_000),
        by: "operator".into(),
        approved_by: (name == "set-alarm-limits").then(|| "approver".into()),
    };
    command.sign(&region())
}

#[tokio::test]
async fn limits_that_are_set_one_by_one_stay_in_order_and_those_that_stand_are_reported() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let set = async |number: u8, name: &str, value: i64| {
        let parameters = BTreeMap::from([(
            name.to_owned(),
            Value::Number(types::Decimal::from_parts(value, 0)),
        )]);
        let signed = of(&run, LAB, number, ("set-alarm-limits", parameters)).await;
        run.comes(&signed).await;
        signed.command().id
    };
    let high = set(1, "heart-rate-high", 140).await;
    // It waits behind the one that sets the high limit: nothing is wrong with it yet.
    set(2, "heart-rate-low", 150).await;
    let low = set(3, "heart-rate-low", 60).await;
    assert_eq!(run.looks().await, 1);
    run.dispatch.written(high, Ok(())).await;
    assert_eq!(run.looks().await, 1, "the next one's turn comes at once");
    run.dispatch.written(low, Ok(())).await;
    let told = ["acknowledged ", "refused over-range", "acknowledged "];
    assert_eq!(run.told().await, told);
    let read = |commit: &mut Commit<'_, '_>| rows::reported(commit.tx(), &id(LAB));
    let (_, reported) = run.store().in_commit(read).await.unwrap();
    let limits = serde_json::json!({"heart-rate-high": 140, "heart-rate-low": 60});
    assert_eq!(reported["alarm-limits"], limits);
}

#[tokio::test]
async fn what_does_not_go_with_what_a_modbus_device_has_then_is_refused() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let low = Value::Number(types::Decimal::from_parts(60, 0));
    let limits = BTreeMap::from([("heart-rate-low".to_owned(), low)]);
    let signed = of(&run, MONITOR, 1, ("set-alarm-limits", limits.clone())).await;
    run.comes(&signed).await;
    let looked = run.dispatch.look(&BTreeSet::new(), &BTreeMap::new()).await;
    let (_, next) = looked.unwrap();
    let [Next::Modbus(_, What::Beside(entry, given), _)] = &next[..] else {
        panic!("it is judged on the line");
    };
    assert_eq!((entry.name.as_str(), given), ("set-alarm-limits", &limits));
    let refused = Err(Reason::OverRange);
    run.dispatch.written(signed.command().id, refused).await;
    assert_eq!(run.told().await, ["refused over-range"]);
}

#[tokio::test]
async fn a_modbus_device_is_written_to_once_wherever_the_node_is_killed() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, MONITOR).await;
    run.comes(&signed).await;
    let run = run.killed(dir.path()).await;
    // The receipt was lost as well: the command comes again.
    run.comes(&signed).await;
    assert_eq!(
        run.looks().await,
        1,
        "it was killed before anything was begun"
    );
    let run = run.killed(dir.path()).await;
    run.comes(&signed).await;
    assert_eq!(run.looks().await, 0, "whether it was written nobody knows");
    assert_eq!(run.told().await, ["failed interrupted"]);
    let run = run.killed(dir.path()).await;
    assert_eq!(run.looks().await, 0);
    run.comes(&signed).await;
    assert_eq!(
        run.told().await.len(),
        2,
        "it says so again, and does nothing"
    );
}

#[tokio::test]
async fn what_a_modbus_device_did_is_reported_once_and_stands_through_a_kill() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, MONITOR).await;
    run.comes(&signed).await;
    assert_eq!(run.looks().await, 1);
    run.dispatch.written(signed.command().id, Ok(())).await;
    let run = run.killed(dir.path()).await;
    assert_eq!(run.looks().await, 0);
    run.dispatch.written(signed.command().id, Ok(())).await;
    assert_eq!(run.told().await, ["acknowledged "]);
}

#[tokio::test]
async fn an_mqtt_device_is_told_until_it_answers_and_its_answer_counts_once_through_kills() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, LAB).await;
    run.comes(&signed).await;
    assert_eq!(run.looks().await, 1);
    let run = run.killed(dir.path()).await;
    assert_eq!(
        run.looks().await,
        1,
        "the device carries it out once by itself"
    );
    assert_eq!(*run.heard.0.lock(), [signed.command().id.to_string()]);
    let answer = Answer {
        command: signed.command().id,
        device: signed.command().device,
        sequence: 5,
        state: State::Acknowledged,
        reason: None,
        time: signed.command().issued,
    };
    let stranger = Answer {
        device: CatalogId::from_bytes([9; 16]),
        ..answer.clone()
    };
    let (certificate, signature) = signed_by_device(&stranger);
    let message = stranger.to_json(&signature).to_string();
    let results = Results {
        store: run.store().clone(),
        control: control(),
    };
    let taken = results
        .take(&id(LAB), &certificate, message.as_bytes())
        .await;
    assert_eq!(taken, Err(NoAnswer::Wrong), "it is of another device");
    let (certificate, signature) = signed_by_device(&answer);
    let message = answer.to_json(&signature).to_string();
    let mut run = run;
    for _ in 0..2 {
        // Its PUBACK is lost: the device answers again, to the node that was killed meanwhile.
        let results = Results {
            store: run.store().clone(),
            control: control(),
        };
        let taken = results
            .take(&id(LAB), &certificate, message.as_bytes())
            .await;
        assert_eq!(taken, Ok(()));
        run = run.killed(dir.path()).await;
        assert_eq!(
            run.looks().await,
            0,
            "an answered command is told to nobody"
        );
    }
    assert_eq!(run.told().await, ["acknowledged "]);
}

#[tokio::test]
async fn a_command_that_did_not_reach_a_modbus_device_waits_for_it() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, MONITOR).await;
    run.comes(&signed).await;
    assert_eq!(run.looks().await, 1);
    let unreached = Err(Reason::Unreached);
    run.dispatch.written(signed.command().id, unreached).await;
    let away = BTreeSet::from([signed.command().id]);
    let looked = run.dispatch.look(&away, &BTreeMap::new()).await;
    let (open, next) = looked.unwrap();
    assert_eq!((open.len(), next.len()), (1, 0), "it rests");
    assert!(run.told().await.is_empty(), "it has not ended");
    let run = run.killed(dir.path()).await;
    assert_eq!(run.looks().await, 1, "nothing was sent: it is tried again");
    run.dispatch.written(signed.command().id, Ok(())).await;
    assert_eq!(run.told().await, ["acknowledged "]);
}

#[tokio::test]
async fn a_command_is_taken_back_as_long_as_its_device_was_not_told() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, MONITOR).await;
    run.comes(&signed).await;
    let number = signed.command().sequence;
    let takes_back = ("withdraw", withdrawal::parameters(number));
    run.comes(&of(&run, MONITOR, 6, takes_back).await).await;
    assert_eq!(run.looks().await, 0);
    assert_eq!(run.told().await, ["refused superseded"]);
    let interval = ("interval".to_owned(), Value::Text("9s".into()));
    let next = ("set-interval", BTreeMap::from([interval]));
    let next = of(&run, MONITOR, 7, next).await;
    run.comes(&next).await;
    assert_eq!(run.looks().await, 1);
    let takes_back = ("withdraw", withdrawal::parameters(7));
    run.comes(&of(&run, MONITOR, 8, takes_back).await).await;
    run.dispatch.written(next.command().id, Ok(())).await;
    assert_eq!(run.told().await, ["refused superseded", "acknowledged "]);
}

#[tokio::test]
async fn a_command_that_is_taken_back_while_its_device_is_looked_for_is_not_tried_again() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, MONITOR).await;
    run.comes(&signed).await;
    assert_eq!(run.looks().await, 1);
    let takes_back = ("withdraw", withdrawal::parameters(5));
    run.comes(&of(&run, MONITOR, 6, takes_back).await).await;
    assert!(run.told().await.is_empty(), "the device may be told");
    let unreached = Err(Reason::Unreached);
    run.dispatch.written(signed.command().id, unreached).await;
    assert_eq!(run.looks().await, 0);
    assert_eq!(run.told().await, ["refused superseded"]);
}

#[tokio::test]
async fn a_modbus_device_reports_what_its_registers_show_and_nothing_that_is_gone() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let signed = command(&run, MONITOR).await;
    run.comes(&signed).await;
    assert_eq!(run.looks().await, 1);
    run.dispatch.written(signed.command().id, Ok(())).await;
    let table = commands::Table::built_in(DeviceKind::BedsideMonitor);
    let writes: Vec<commands::Write> = table.0.iter().flat_map(|it| it.write.clone()).collect();
    let mut known = BTreeMap::new();
    let mut show = async |interval_ms: u64, low: u64| {
        let number = |write: &commands::Write| match write.address {
            64 => interval_ms,
            66 => low,
            67 => 100,
            _ => 0,
        };
        let shown = Shown {
            device: id(MONITOR),
            numbers: writes
                .iter()
                .map(|it| (it.clone(), Some(number(it))))
                .collect(),
            afresh: true,
        };
        run.dispatch.takes_shown(shown, &mut known).await;
        let read = |commit: &mut Commit<'_, '_>| rows::reported(commit.tx(), &id(MONITOR));
        let (_, reported) = run.store().in_commit(read).await.unwrap();
        serde_json::Value::Object(reported)
    };
    let limits = |low: u64| serde_json::json!({"heart-rate-low": low, "heart-rate-high": 100});
    assert_eq!(
        show(5_000, 50).await,
        serde_json::json!({"interval": "5s", "alarm-limits": limits(50)})
    );
    // The power was gone, and somebody has set limits that nobody would set here.
    assert_eq!(
        show(0, 110).await,
        serde_json::json!({"alarm-limits": limits(110)})
    );
}

#[tokio::test]
async fn a_late_answer_to_an_older_command_does_not_hide_what_a_newer_one_set() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let mut sent = Vec::new();
    for (number, interval) in [(1, "10s"), (2, "20s")] {
        let interval = ("interval".to_owned(), Value::Text(interval.into()));
        let parameters = BTreeMap::from([interval]);
        let signed = of(&run, LAB, number, ("set-interval", parameters)).await;
        run.comes(&signed).await;
        assert_eq!(run.looks().await, 1);
        let gone = signed.command().id;
        if number == 1 {
            // It was handed on, and its answer is lost until its time has ended.
            let step = move |commit: &mut Commit<'_, '_>| {
                let row = Row::find(commit.tx(), gone)?.expect("it was taken in");
                end(commit, row, (State::Expired, Reason::Unanswered))
            };
            run.store().in_commit(step).await.unwrap();
        }
        sent.push(signed);
    }
    for signed in sent.iter().rev() {
        run.answers(signed).await;
    }
    let told = ["expired unanswered", "acknowledged ", "acknowledged "];
    assert_eq!(run.told().await, told);
    let read = |commit: &mut Commit<'_, '_>| rows::reported(commit.tx(), &id(LAB));
    let (_, reported) = run.store().in_commit(read).await.unwrap();
    assert_eq!(reported["interval"], "20s");
}

#[tokio::test]
async fn those_behind_a_command_that_its_device_does_not_answer_are_handed_on() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let wish = command(&run, LAB).await;
    let identify = of(&run, LAB, 6, ("identify", BTreeMap::new())).await;
    let low = Value::Number(types::Decimal::from_parts(90, 0));
    let low = ("spo2-low".to_owned(), low);
    let limits = ("set-alarm-limits", BTreeMap::from([low]));
    let limits = of(&run, LAB, 7, limits).await;
    let ids = [&wish, &identify, &limits].map(|signed| signed.command().id);
    run.comes(&wish).await;
    assert_eq!(run.looks().await, 1);
    run.comes(&identify).await;
    let mut expected = vec![ids[0]];
    // It has time to answer, and then none.
    for (handed, next) in [(MAX_HANDED - 1, ids[0]), (MAX_HANDED, ids[1])] {
        assert_eq!(run.looks_after(&[(ids[0], handed)]).await, 1, "{handed}");
        expected.push(next);
    }
    let heard = |run: &Run| run.heard.0.lock().clone();
    let texts: Vec<_> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(heard(&run), texts);
    // What was passed is handed on no more: the device would refuse it now.
    let run = run.killed(dir.path()).await;
    assert_eq!(run.looks().await, 1);
    run.comes(&limits).await;
    assert_eq!(run.looks_after(&[(ids[1], 1)]).await, 1, "it is of safety");
    assert_eq!(heard(&run), [ids[1].to_string(), ids[2].to_string()]);
    assert!(run.told().await.is_empty(), "each may be answered yet");
    run.answers(&limits).await;
    let told = ["acknowledged ", "expired unanswered", "expired unanswered"];
    assert_eq!(run.told().await, told);
    assert_eq!(run.looks().await, 0);
    run.answers(&wish).await;
    assert_eq!(run.told().await.last().unwrap(), "acknowledged ");
}

#[tokio::test]
async fn what_is_of_safety_waits_for_the_first_of_several_that_are_not_answered() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let mut ids = Vec::new();
    for number in 5..9 {
        let low = Value::Number(types::Decimal::from_parts(90, 0));
        let limits = BTreeMap::from([("spo2-low".to_owned(), low)]);
        let what = match number {
            8 => ("set-alarm-limits", limits),
            _ => ("identify", BTreeMap::new()),
        };
        let signed = of(&run, LAB, number, what).await;
        ids.push(signed.command().id);
        run.comes(&signed).await;
    }
    assert_eq!(run.looks().await, 1);
    // The first one has had its time; the others are given none, and go out together.
    assert_eq!(run.looks_after(&[(ids[0], 1)]).await, 3);
    let texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(*run.heard.0.lock(), texts);
}

/// A limit of the saturation, as a command that is of safety.
async fn limit(run: &Run, number: u8, value: i64) -> Signed {
    let low = Value::Number(types::Decimal::from_parts(value, 0));
    let limits = BTreeMap::from([("spo2-low".to_owned(), low)]);
    of(run, LAB, number, ("set-alarm-limits", limits)).await
}

#[tokio::test]
async fn what_is_of_safety_is_passed_by_nothing_that_is_not_until_it_has_ended() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let first = limit(&run, 5, 90).await;
    let identify = of(&run, LAB, 6, ("identify", BTreeMap::new())).await;
    let ids = [&first, &identify].map(|signed| signed.command().id);
    run.comes(&first).await;
    run.comes(&identify).await;
    assert_eq!(run.looks().await, 1);
    // It is handed on again and again, also by a node that was killed.
    assert_eq!(run.looks_after(&[(ids[0], MAX_HANDED * 9)]).await, 1);
    let first_twice = [ids[0].to_string(), ids[0].to_string()];
    assert_eq!(*run.heard.0.lock(), first_twice);
    let run = run.killed(dir.path()).await;
    assert_eq!(run.looks_after(&[(ids[0], MAX_HANDED)]).await, 1);
    assert_eq!(*run.heard.0.lock(), [ids[0].to_string()]);
    // Its time ends: those behind it wait no more.
    let step = move |commit: &mut Commit<'_, '_>| {
        let row = Row::find(commit.tx(), ids[0])?.expect("it was taken in");
        end(commit, row, (State::Expired, Reason::Unanswered))
    };
    run.store().in_commit(step).await.unwrap();
    assert_eq!(run.looks().await, 1);
    assert_eq!(*run.heard.0.lock(), ids.map(|id| id.to_string()));
}

#[tokio::test]
async fn what_is_of_safety_is_passed_by_another_of_safety_and_what_stands_between_goes_out_before_that()
 {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let first = limit(&run, 5, 90).await;
    let identify = of(&run, LAB, 6, ("identify", BTreeMap::new())).await;
    let second = limit(&run, 7, 88).await;
    let behind = of(&run, LAB, 8, ("identify", BTreeMap::new())).await;
    for signed in [&first, &identify, &second, &behind] {
        run.comes(signed).await;
    }
    let id = |signed: &Signed| signed.command().id;
    assert_eq!(run.looks().await, 1);
    assert_eq!(run.looks_after(&[(id(&first), 1)]).await, 2);
    let expected = [&first, &identify, &second].map(|signed| id(signed).to_string());
    assert_eq!(*run.heard.0.lock(), expected, "their numbers only grow");
    // The last one waits for the second limit, however mute the device is.
    assert_eq!(run.looks_after(&[(id(&second), MAX_HANDED)]).await, 1);
    assert_eq!(run.heard.0.lock().last(), Some(&id(&second).to_string()));
    run.answers(&second).await;
    assert_eq!(run.looks().await, 1);
    assert_eq!(run.heard.0.lock().last(), Some(&id(&behind).to_string()));
}

#[tokio::test]
async fn a_limit_that_its_device_may_not_be_told_lets_nothing_pass_the_one_before_it() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let set = async |number: u8, name: &str, value: i64| {
        let value = Value::Number(types::Decimal::from_parts(value, 0));
        let given = BTreeMap::from([(name.to_owned(), value)]);
        of(&run, LAB, number, ("set-alarm-limits", given)).await
    };
    let first = set(5, "heart-rate-high", 60).await;
    let identify = of(&run, LAB, 6, ("identify", BTreeMap::new())).await;
    // The device may have the high limit, though it has not answered.
    let above = set(7, "heart-rate-low", 70).await;
    for signed in [&first, &identify, &above] {
        run.comes(signed).await;
    }
    assert_eq!(run.looks().await, 1);
    let id = first.command().id;
    assert_eq!(run.looks_after(&[(id, 1)]).await, 1, "it is told again");
    assert_eq!(*run.heard.0.lock(), [id.to_string(), id.to_string()]);
}

/// A device that has left.
struct Left;

impl Tell for Left {
    fn is_connected(&self, _: &DeviceId) -> bool {
        false
    }

    fn tell(&self, _: &DeviceId, _: Bytes, _: Duration) {}
}

#[tokio::test]
async fn a_device_that_leaves_whenever_it_is_handed_a_command_holds_those_behind_up_no_longer() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let wish = command(&run, LAB).await;
    let identify = of(&run, LAB, 6, ("identify", BTreeMap::new())).await;
    run.comes(&wish).await;
    run.comes(&identify).await;
    let (told, _answers) = mpsc::channel(MAX_TOLD);
    let (mut sent, mut writing) = (BTreeMap::new(), BTreeSet::new());
    // It is handed the command, leaves, and comes again.
    for _ in 0..MAX_HANDED + 2 {
        let (away, without) = (BTreeSet::new(), unanswered(&sent));
        let (_, next) = run.dispatch.look(&away, &without).await.unwrap();
        for next in next {
            run.dispatch.hand_on(next, &mut sent, &mut writing, &told);
        }
        forget_times(&mut sent, &Left);
    }
    let heard = run.heard.0.lock().clone();
    let id = |signed: &Signed| signed.command().id.to_string();
    let mut expected = vec![id(&wish); 4];
    expected.push(id(&identify));
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_limit_goes_with_those_that_a_device_may_have_though_it_has_not_answered() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let set = async |number: u8, given: &[(&str, i64)]| {
        let given = given.iter().map(|(name, limit)| {
            let limit = types::Decimal::from_parts(*limit, 0);
            ((*name).to_owned(), Value::Number(limit))
        });
        let what = ("set-alarm-limits", given.collect());
        let signed = of(&run, LAB, number, what).await;
        run.comes(&signed).await;
        signed.command().id
    };
    let (low, high) = ("heart-rate-low", "heart-rate-high");
    let first = set(5, &[(high, 60)]).await;
    assert_eq!(run.looks().await, 1);
    set(6, &[(low, 70)]).await;
    assert_eq!(run.looks_after(&[(first, 1)]).await, 0);
    assert_eq!(run.told().await, ["refused over-range"]);
    let both = set(7, &[(low, 70), (high, 100)]).await;
    assert_eq!(run.looks_after(&[(first, 1)]).await, 1);
    let heard = [first, both].map(|id| id.to_string());
    assert_eq!(*run.heard.0.lock(), heard);
}

#[tokio::test]
async fn a_limit_that_a_device_may_have_stays_so_when_it_carries_out_another() {
    let dir = TempDir::new().unwrap();
    let run = Run::over(dir.path());
    let set = async |number: u8, given: &[(&str, i64)]| {
        let given = given.iter().map(|(name, limit)| {
            let limit = types::Decimal::from_parts(*limit, 0);
            ((*name).to_owned(), Value::Number(limit))
        });
        let what = ("set-alarm-limits", given.collect());
        let signed = of(&run, LAB, number, what).await;
        run.comes(&signed).await;
        signed
    };
    let (low, high) = ("heart-rate-low", "heart-rate-high");
    let first = set(5, &[(high, 60)]).await;
    assert_eq!(run.looks().await, 1);
    let other = set(6, &[("spo2-low", 90)]).await;
    assert_eq!(run.looks_after(&[(first.command().id, 1)]).await, 1);
    run.answers(&other).await;
    set(7, &[(low, 70)]).await;
    assert_eq!(run.looks().await, 0, "the first one may have been done");
    let refused = "refused over-range".to_owned();
    assert_eq!(run.told().await.last(), Some(&refused));
    let both = set(8, &[(low, 70), (high, 100)]).await;
    assert_eq!(run.looks().await, 1);
    run.answers(&both).await;
    set(9, &[(low, 80)]).await;
    assert_eq!(run.looks().await, 1, "both are known");
}

#[test]
fn a_device_is_told_by_registers_when_it_is_polled_whatever_its_kind() {
    let polled = |name: &str, kind| DeviceConfig {
        profile: Some("medmesh-monitor".into()),
        address: Some("tcp://127.0.0.1:502".into()),
        ..config(name, kind)
    };
    let devices = [
        polled("e1", DeviceKind::External),
        polled("l1", DeviceKind::LabAnalyser),
        config(LAB, DeviceKind::External),
        config(MONITOR, DeviceKind::BedsideMonitor),
    ];
    let control = Control::new(&devices, &Profiles::default());
    let told = devices.map(|device| control.is_modbus(&device.id));
    assert_eq!(told, [true, true, false, true]);
}

/// A certificate, and the signature of its holder.
fn signed_by_device(answer: &Answer) -> (Vec<u8>, Vec<u8>) {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
    };
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let dir = TempDir::new().unwrap();
    let now = types::Timestamp(1_767_225_600_000);
    let ca = federation::pki::Ca::init(&dir.path().join("pki"), now).unwrap();
    let identity: federation::identity::Identity =
        "spiffe://medmesh/device/eu/eu/eu-f1/lab".parse().unwrap();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
    let life = Duration::from_secs(60);
    let code = ca.invite(&identity, &[], life, now, &mut rng).unwrap();
    let new = federation::pki::new_key_and_csr(&identity, None).unwrap();
    let issued = ca.enrol(&code, &new.csr_pem, now, &mut rng).unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(new.key_pem.reveal().as_bytes()).unwrap();
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &random).unwrap();
    let signature = key.sign(&random, &answer.encode()).unwrap();
    (certificate.to_vec(), signature.as_ref().to_vec())
}
