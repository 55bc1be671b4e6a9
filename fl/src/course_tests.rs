//! Studies from their first round to their evaluation, in memory: the same model whoever comes first, whatever is
//! killed, and however many regions there are.
use super::*;
use crate::{
    member::MemberRound,
    order::{Answer, Ask, Site},
    privacy::epsilon,
    region::{RegionRound, Taken},
    train::Records,
    update::Memory,
};
use rand::{Rng, seq::SliceRandom};
use std::num::NonZeroUsize;
use types::{FacilityId, Place};

#[path = "course_strategy_tests.rs"]
mod strategies;

fn text(sites: u16, quorum: u16, more: &str) -> String {
    format!(
        r#"name = "small"
sites = {sites}
data = {{ table = "t", minimum_records = 20, features = [{{ name = "x", unit = "1", missing = "zero" }}, {{ name = "y", unit = "1", missing = "zero" }}], label = {{ kind = "binary", column = "l" }} }}
model = {{ kind = "logistic" }}
training = {{ rounds = 3, steps = 5, batch = 8, learning_rate = 0.5, strategy = {{ kind = "fed-avg" }} }}
aggregation = {{ secure = true, quorum = {quorum}, bound = 8.0 }}
deadlines = {{ accept_seconds = 60, train_seconds = 60, exchange_seconds = 60 }}
{more}"#
    )
}

fn records(facility: &FacilityId, count: usize) -> Records {
    let own = facility.as_str().bytes().map(u64::from).sum();
    let mut random = StdRng::seed_from_u64(own);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let pair: [f32; 2] = [
            random.random_range(-1.0..1.0),
            random.random_range(-1.0..1.0),
        ];
        values.extend(pair);
        labels.push(pair[0] + 0.3 * pair[1] > 0.0);
    }
    Records::new(2, values, labels).unwrap()
}

/// A global node, its regions and their facilities; every state is stored as JSON and read again after each step.
struct World {
    course: Course,
    regions: BTreeMap<RegionId, (Place, Vec<FacilityId>, Option<RegionRound>)>,
    members: BTreeMap<FacilityId, MemberRound>,
    /// What each facility kept of its update in each round.
    memories: BTreeMap<FacilityId, BTreeMap<u32, Memory>>,
    gone: BTreeSet<FacilityId>,
    /// What is a blob.
    files: Files,
    random: StdRng,
    now: i64,
}

fn stored<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(state: &T) -> T {
    let text = serde_json::to_string(state).unwrap();
    let read = serde_json::from_str(&text).unwrap();
    assert_eq!(&read, state);
    read
}

type Files = BTreeMap<[u8; 32], Vec<u8>>;

fn put(files: &mut Files, bytes: Vec<u8>) -> Vector {
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let vector = Vector {
        sha256: digest.as_ref().try_into().unwrap(),
        bytes: bytes.len() as u64,
    };
    files.insert(vector.sha256, bytes);
    vector
}

/// An order with its model in it.
fn whole(files: &Files, order: &RoundOrder) -> RoundOrder {
    match order.large {
        Some(model) => order.with_model(&files[&model.sha256]).unwrap(),
        None => order.clone(),
    }
}

/// An answer as it comes in, after its blob.
fn sent(
    files: &mut Files,
    round: &RegionRound,
    (from, mut answer): (&FacilityId, Answer),
) -> Answer {
    let (order, numbers) = (round.order(), answer.take_numbers());
    if order.large.is_none() || order.aim == Aim::Judge || numbers.is_empty() {
        return stored(&answer).with_numbers(numbers);
    }
    let update = put(files, large::to_bytes(&numbers));
    let answer = stored(&answer.with_large(update));
    assert_eq!(round.awaits(from, &answer), Some(update));
    answer
}

/// Makes the sum of a round, where it is made of blobs.
fn summed(files: &mut Files, round: &mut RegionRound) {
    let Some(summing) = round.summing() else {
        return;
    };
    assert_eq!(round.release(), None, "there is no sum yet");
    let summing = summing.unwrap();
    let of = |vector: &Vector| &files[&vector.sha256][..];
    let inputs = summing.vectors.iter().map(of).collect();
    let mut sum = Vec::new();
    std::io::Read::read_to_end(&mut summing.sum(inputs, 2.try_into().unwrap()), &mut sum).unwrap();
    round.was_summed(Ok(put(files, sum)));
    *round = stored(round);
}

impl World {
    fn new(regions: &[&[&str]], text: String, seed: u64) -> Self {
        let names = ["us", "eu", "apac"];
        let regions: BTreeMap<_, _> = regions
            .iter()
            .zip(names)
            .map(|(facilities, name)| {
                let place = format!("regional/{name}/{name}").parse().unwrap();
                let facilities = facilities.iter().map(|f| f.parse().unwrap()).collect();
                (name.parse().unwrap(), (place, facilities, None))
            })
            .collect();
        let known = regions.keys().cloned().collect();
        let mut files = BTreeMap::new();
        let first = Course::first_model(&text).unwrap();
        let first = first.map(|model| put(&mut files, large::model_bytes(&model)));
        let id = "small-1".parse().unwrap();
        Self {
            course: Course::begin_large(id, text, &known, first, 0).unwrap(),
            files,
            regions,
            members: BTreeMap::new(),
            memories: BTreeMap::new(),
            gone: BTreeSet::new(),
            random: StdRng::seed_from_u64(seed),
            now: 0,
        }
    }

    /// One thing happens somewhere; false when nothing is left to happen.
    fn step(&mut self) -> bool {
        self.now += 1;
        for (region, order) in self.course.orders() {
            let (place, known, round) = self.regions.get_mut(&region).unwrap();
            *round = Some(RegionRound::begin(order, place, known, self.now).unwrap());
            self.course.was_ordered(&region);
            self.course = stored(&self.course);
        }
        let mut regions: Vec<_> = self.regions.keys().cloned().collect();
        regions.shuffle(&mut self.random);
        let mut changed = false;
        for region in regions {
            changed |= self.in_region(&region);
        }
        changed || !self.course.orders().is_empty()
    }

    fn in_region(&mut self, region: &RegionId) -> bool {
        let (place, _, round) = self.regions.get_mut(region).unwrap();
        let Some(round) = round else { return false };
        let mut asks = round.asks();
        asks.shuffle(&mut self.random);
        let changed = !asks.is_empty();
        for (member, facility, ask) in asks {
            let answered = match (&ask, self.gone.contains(&facility)) {
                (_, true) => None,
                (Ask::Invite, _) => {
                    let secret = self.random.random();
                    let order = round.order().clone();
                    let known = self.members.get(&facility);
                    if known.is_none_or(|known| known.order().key != order.key) {
                        let began = MemberRound::begin(order, place, member, secret).unwrap();
                        self.members.insert(facility.clone(), began);
                    }
                    Some(Answer::Accepted)
                }
                _ => {
                    let state = self.members.get_mut(&facility).unwrap();
                    let made = matches!(ask, Ask::Train(_)).then(|| {
                        let (study, _) = state.order().read().unwrap();
                        let seed = state.seed(&study, &facility);
                        let mut random =
                            StdRng::from_seed(seed.unwrap_or_else(|| self.random.random()));
                        let own = (&records(&facility, 60), &records(&facility, 30));
                        let round = state.order().key.round;
                        let kept = self.memories.entry(facility.clone()).or_default();
                        let before = kept.range(..round).next_back().map(|(_, kept)| kept);
                        let order = whole(&self.files, state.order());
                        let made = site::work(&order, own, before, &mut random).unwrap();
                        let made = stored(&made);
                        if let Some(memory) = made.memory {
                            kept.insert(round, memory);
                        }
                        (made.numbers, made.told)
                    });
                    let answer = state.answer(&ask, made);
                    *state = stored(state);
                    answer
                }
            };
            // A region that is killed before it has stored that it asked asks again.
            if self.random.random_bool(0.8) {
                round.was_asked(member, &ask);
            }
            *round = stored(round);
            let Some(mut answer) = answered else { continue };
            answer = sent(&mut self.files, round, (&facility, answer));
            let width = self.members.get(&facility).and_then(MemberRound::width);
            let message = crate::wire::answer(round.key(), answer, width);
            let (_, answer) = crate::wire::read_answer(message).unwrap();
            round.take(&facility, answer.clone(), self.now);
            assert_eq!(round.take(&facility, answer, self.now), Taken::Not, "once");
        }
        summed(&mut self.files, round);
        if let Some(mut release) = round.release().filter(|_| !round.is_released()) {
            round.was_released();
            let numbers = release.take_numbers();
            let release = stored(&release).with_numbers(numbers);
            assert!(self.course.take(region, release.clone(), self.now));
            assert!(!self.course.take(region, release, self.now), "once");
            self.next_model();
            return true;
        }
        changed
    }

    /// The next model is made, where it is made of blobs.
    fn next_model(&mut self) {
        let Some(stepping) = self.course.stepping() else {
            return;
        };
        let stepping = stepping.unwrap();
        let of = |vector: &Vector| &self.files[&vector.sha256][..];
        let sums = || stepping.sums.iter().map(|(_, sum, _)| of(sum)).collect();
        let looked = stepping.look(sums()).unwrap();
        let before = || (of(&stepping.model), stepping.moments.as_ref().map(of));
        let make = |part| {
            let mut made = Vec::new();
            let mut step = stepping.step(looked, part, sums(), before(), NonZeroUsize::MIN);
            std::io::Read::read_to_end(&mut step, &mut made).unwrap();
            made
        };
        let model = make(large::Part::Model);
        let moments = stepping.remembers().then(|| make(large::Part::Moments));
        let model = put(&mut self.files, model);
        let moments = moments.map(|bytes| put(&mut self.files, bytes));
        let made = Ok((model, moments, looked.within));
        assert!(self.course.stepped(made, stepping.members(), self.now));
        self.course = stored(&self.course);
    }

    fn run(mut self) -> Self {
        while self.step() {}
        self
    }

    /// All deadlines of the step pass.
    fn wait(&mut self) {
        self.now += 60_001;
        for (_, _, round) in self.regions.values_mut() {
            if let Some(round) = round {
                round.tick(self.now);
            }
        }
    }
}

const SIX: [&str; 6] = ["fa", "fb", "fc", "fd", "fe", "ff"];

fn bits(model: &[f32]) -> Vec<u32> {
    model.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_study_ends_with_the_same_model_whoever_comes_first_and_however_often_states_are_read_again() {
    let first = World::new(&[&SIX[..4]], text(4, 3, ""), 0).run();
    assert_eq!(first.course.standing(), &Standing::Done);
    assert_eq!(
        (first.course.trained(), first.course.reports().len()),
        (3, 4)
    );
    for seed in 1..9 {
        let other = World::new(&[&SIX[..4]], text(4, 3, ""), seed).run();
        assert_eq!(bits(other.course.model()), bits(first.course.model()));
        assert_eq!(other.course.evaluation(), first.course.evaluation());
    }
    let found = first.course.evaluation().unwrap();
    let pooled = found.pooled.unwrap();
    let (interval, auroc) = (
        pooled.intervals.unwrap().auroc.unwrap(),
        pooled.auroc.unwrap(),
    );
    assert!(interval.low <= auroc && auroc <= interval.high);
    assert_eq!(
        found
            .curves
            .as_ref()
            .unwrap()
            .roc
            .last()
            .map(|all| all.0 + all.1),
        Some(pooled.records)
    );
    assert!(found.sites.values().all(|site| site.intervals.is_some()));
    let told = |report: &Report| {
        let known = |site: &Site| site.told.auroc.is_some() || site.told.figures.is_some();
        report.sites.values().all(known)
    };
    assert!(
        first.course.reports().iter().all(told),
        "the model of each round was judged"
    );
    let pooled = found.pooled.unwrap();
    assert_eq!((pooled.records, found.sites.len()), (120, 4));
    assert!(pooled.accuracy > 0.85 && auroc > 0.95, "{pooled:?}");
    let losses = first.course.reports().iter().take(3);
    let losses: Vec<_> = losses
        .map(|round| {
            round
                .sites
                .values()
                .map(|site| site.told.loss.unwrap())
                .sum::<f64>()
        })
        .collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}

#[test]
fn a_study_over_three_regions_has_the_model_that_it_has_over_one() {
    let one = World::new(&[&SIX], text(6, 6, ""), 1).run();
    let three = World::new(&[&SIX[..2], &SIX[2..4], &SIX[4..]], text(2, 2, ""), 2).run();
    assert_eq!(three.course.standing(), &Standing::Done);
    assert_eq!(bits(one.course.model()), bits(three.course.model()));
    assert_eq!(one.course.evaluation(), three.course.evaluation());
}

#[test]
fn a_study_whose_vectors_fit_no_parcel_has_the_same_model_over_three_regions_as_over_one() {
    let large = |sites, strategy: &str| {
        let text = text(sites, sites, "");
        let model = r#"{ kind = "mlp", hidden = [400, 250] }"#;
        text.replace(r#"{ kind = "logistic" }"#, model)
            .replace("rounds = 3", "rounds = 2")
            .replace(r#"kind = "fed-avg""#, strategy)
    };
    let adam = r#"kind = "fed-adam", server_learning_rate = 0.01, beta_1 = 0.9, beta_2 = 0.99, tau = 0.001"#;
    for kind in [r#"kind = "fed-avg""#, adam] {
        let one = World::new(&[&SIX], large(6, kind), 1).run();
        let regions = [&SIX[..2], &SIX[2..4], &SIX[4..]];
        let three = World::new(&regions, large(2, kind), 2).run();
        for world in [&one, &three] {
            assert_eq!(world.course.standing(), &Standing::Done, "{kind}");
            assert_eq!(world.course.trained(), 2);
            let report = &world.course.reports()[0];
            assert_eq!((report.members, report.bytes), (6, 6 * 4 * 101_701));
        }
        let of = |world: &World| world.course.large_model().unwrap();
        assert_eq!(of(&one), of(&three), "{kind}");
        assert_eq!(one.course.evaluation(), three.course.evaluation());
        let mut course = one.course.clone();
        course.put_model(&one.files[&of(&one).sha256][..]).unwrap();
        assert_eq!(course.model().len(), 101_701);
    }
}

#[test]
fn a_large_study_that_is_not_masked_or_has_no_blob_of_its_model_is_refused() {
    let text = text(4, 3, "");
    let model = r#"{ kind = "mlp", hidden = [400, 250] }"#;
    let text = text.replace(r#"{ kind = "logistic" }"#, model);
    let plain = text.replace("secure = true", "secure = false");
    let why = order::read(&plain).unwrap_err();
    assert!(why.starts_with("aggregation.secure: "), "{why}");
    let known = ["us".parse().unwrap()].into();
    let begun = Course::begin("small-1".parse().unwrap(), text, &known, 0);
    assert!(
        begun.is_err(),
        "without the blob of its model nothing begins"
    );
}

#[test]
fn a_site_that_falls_silent_is_named_and_the_others_go_on() {
    let mut world = World::new(&[&SIX[..4]], text(4, 3, ""), 5);
    world.gone.insert("fb".parse().unwrap());
    for _ in 0..60 {
        while world.step() {}
        world.wait();
    }
    assert_eq!(world.course.standing(), &Standing::Done);
    let report = &world.course.reports()[0];
    let missing = report.sites[&"fb".parse().unwrap()].missing.clone();
    assert_eq!(missing.unwrap(), "did not answer in the step `invite`");
    assert_eq!((report.members, report.sites.len()), (3, 4));
}

#[test]
fn a_study_that_is_cancelled_ends_the_round_at_each_region_that_has_released_nothing() {
    let mut world = World::new(&[&SIX[..2], &SIX[2..4]], text(2, 2, ""), 3);
    world.gone.insert("fc".parse().unwrap());
    while world.step() {}
    assert!(world.course.ends().is_empty(), "it runs");
    assert!(world.course.cancel());
    world.course = stored(&world.course);
    let eu: RegionId = "eu".parse().unwrap();
    assert_eq!(
        world.course.ends(),
        std::slice::from_ref(&eu),
        "us has released"
    );
    let round = world.regions.get_mut(&eu).unwrap().2.as_mut().unwrap();
    assert!(round.end() && !round.end(), "once");
    *round = stored(round);
    let told: Vec<_> = round.asks().into_iter().map(|(_, _, ask)| ask).collect();
    assert_eq!(told, [Ask::Over, Ask::Over], "whoever was asked is told");
    let release = round.release().unwrap();
    let Outcome::Failed(why) = &release.outcome else {
        panic!("{release:?}");
    };
    assert!(why.contains("it was cancelled"), "{why}");
    assert!(!world.course.take(&eu, release, world.now), "nobody waits");
    world.course.was_ended(&eu);
    assert!(world.course.ends().is_empty(), "once");
    world.course.resume(world.now).unwrap();
    let keys = world.course.orders().into_iter();
    let attempts: Vec<_> = keys.map(|(_, order)| order.key.attempt).collect();
    assert_eq!(attempts, [2, 2]);
}

#[test]
fn a_round_that_fails_in_one_region_ends_in_every_other_at_once() {
    let mut course = World::new(&[&SIX[..2], &SIX[2..4]], text(2, 2, ""), 3).course;
    for (region, _) in course.orders() {
        course.was_ordered(&region);
    }
    let why = "2 sites are asked for and 1 facilities are known here";
    let release = Release {
        key: course.key(),
        outcome: Outcome::Failed(why.into()),
        sites: BTreeMap::new(),
        bytes: 0,
        asked: false,
    };
    assert!(course.take(&"eu".parse().unwrap(), release, 7));
    let failed = Standing::Failed(format!("round 1: region eu: {why}"));
    assert_eq!(course.standing(), &failed);
    let us: RegionId = "us".parse().unwrap();
    assert_eq!(course.ends(), std::slice::from_ref(&us));
    course.was_ended(&us);
    course.resume(8).unwrap();
    assert_eq!(course.orders().len(), 2);
}

/// A study that hides records, with the spend of so many releases of a round.
fn hidden() -> (String, impl Fn(u64) -> Option<f64>) {
    let more = "privacy = { unit = \"record\", epsilon = 8.0, delta = 1e-4, clip = 1.0 }";
    let scaled = "missing = \"zero\", scale = { centre = 0.0, width = 1.0 }";
    let text = text(2, 2, more).replace("missing = \"zero\"", scaled);
    let (_, plan) = order::read(&text).unwrap();
    let spend = plan.spend.unwrap();
    let of = move |releases: u64| {
        let steps = spend.steps / 3 * releases;
        if steps == 0 {
            return Some(0.0);
        }
        let event = Event::new(spend.sampling, spend.noise_multiplier, steps).unwrap();
        Some(epsilon(&[event], Delta::new(spend.delta).unwrap()))
    };
    (text, of)
}

#[test]
fn a_round_that_was_paid_for_in_vain_counts_in_what_the_study_spent() {
    let (text, of) = hidden();
    let mut world = World::new(&[&SIX[..2], &SIX[2..4]], text.clone(), 3);
    world.gone.insert("fc".parse().unwrap());
    while world.step() {}
    // us has its sum of the first round, which its sites have paid for, and eu waits for one that is gone.
    assert_eq!(world.course.spent(0), of(0));
    assert!(world.course.cancel());
    world.course = stored(&world.course);
    assert_eq!(world.course.spent(0), of(1));
    world.gone.clear();
    world.course.resume(world.now).unwrap();
    let ended = world.run();
    assert_eq!(ended.course.standing(), &Standing::Done);
    assert_eq!(ended.course.spent(ended.course.trained()), of(4));
    let told: Vec<_> = ended.course.reports().iter().map(|of| of.epsilon).collect();
    assert_eq!(told, [of(2), of(3), of(4), of(4)]);

    // Before anybody was ordered, and where too few take part, nobody has paid.
    let mut world = World::new(&[&SIX[..2]], text, 3);
    let before = &mut world.course.clone();
    assert!(before.cancel());
    assert_eq!(before.spent(0), of(0));
    world.gone.insert("fb".parse().unwrap());
    while world.step() {}
    world.wait();
    while world.step() {}
    assert!(matches!(world.course.standing(), Standing::Failed(_)));
    assert_eq!(world.course.spent(0), of(0));
    // One is lost when both were asked for their updates.
    world.gone.clear();
    world.course.resume(world.now).unwrap();
    let is_training = |world: &World| {
        let round = world
            .regions
            .values()
            .find_map(|(_, _, round)| round.as_ref());
        round.is_some_and(|round| {
            let key = round.key() == &world.course.key();
            key && round
                .asks()
                .iter()
                .any(|(_, _, ask)| matches!(ask, Ask::Train(_)))
        })
    };
    while !is_training(&world) {
        assert!(world.step());
    }
    world.gone.insert("fb".parse().unwrap());
    while world.step() {}
    world.wait();
    while world.step() {}
    assert!(matches!(world.course.standing(), Standing::Failed(_)));
    assert_eq!(world.course.spent(0), of(1));
    let report = world.course.reports().last().unwrap();
    assert_eq!(report.epsilon, of(1));
}

#[test]
fn a_study_without_a_quorum_fails_naming_who_was_missing_and_goes_on_when_they_are_back() {
    let mut world = World::new(&[&SIX[..4]], text(4, 3, ""), 5);
    world
        .gone
        .extend(["fb".parse().unwrap(), "fd".parse().unwrap()]);
    while world.step() {}
    world.wait();
    while world.step() {}
    let Standing::Failed(why) = world.course.standing() else {
        panic!("{:?}", world.course.standing());
    };
    assert!(
        why.contains("fb did not answer") && why.contains("fd did not answer"),
        "{why}"
    );
    let mut cancelled = world.course.clone();
    assert!(!cancelled.cancel());
    world.gone.clear();
    world.course.resume(world.now).unwrap();
    let resumed = world.run();
    assert_eq!(resumed.course.standing(), &Standing::Done);
    let whole = World::new(&[&SIX[..4]], text(4, 3, ""), 9).run();
    assert_eq!(bits(resumed.course.model()), bits(whole.course.model()));
    assert_eq!(
        resumed.course.reports().len(),
        5,
        "the failed one is told too"
    );
}

#[test]
fn a_study_never_waits_for_a_region_for_ever() {
    let mut world = World::new(&[&SIX[..4]], text(4, 3, ""), 5);
    let until = 5 * 60_000 + REGION_GRACE_MS;
    assert!(!world.course.tick(until - 1));
    assert!(world.course.tick(until));
    let Standing::Failed(why) = world.course.standing() else {
        panic!()
    };
    assert_eq!(why, "round 1: no answer of us");
    assert!(!world.course.tick(until + 1) && world.course.orders().is_empty());
}

#[test]
fn an_answer_of_another_step_or_of_nobody_who_is_asked_changes_nothing() {
    let world = World::new(&[&SIX[..4]], text(4, 3, ""), 5);
    let order = world.course.orders().remove(0).1;
    let place = "regional/us/us".parse().unwrap();
    let known: Vec<FacilityId> = SIX[..4].iter().map(|name| name.parse().unwrap()).collect();
    let mut round = RegionRound::begin(order.clone(), &place, &known, 0).unwrap();
    let before = round.clone();
    let update = Answer::Update {
        numbers: vec![0; 3],
        large: None,
        told: crate::order::Told::default(),
    };
    assert_eq!(round.take(&known[0], update, 1), Taken::Not);
    assert_eq!(
        round.take(&"fz".parse().unwrap(), Answer::Accepted, 1),
        Taken::Not
    );
    assert_eq!(round, before);
    // Whatever a facility says, the release of the others fits a parcel.
    let long = crate::objection::Objection::Plan("x".repeat(1 << 20));
    assert_eq!(
        round.take(&known[1], Answer::Declined(vec![long]), 1),
        Taken::Now
    );
    let said = round.waiting(10_000).unwrap().sites;
    let why = said[&known[1]].missing.as_deref().unwrap();
    assert!(why.starts_with("declined: plan: xx") && why.len() < 1_100);
    // A global node of another version is told nothing that it may not know.
    let mut other = order.clone();
    other.code = Some("0".repeat(64));
    let other = RegionRound::begin(other, &place, &known, 0).unwrap();
    assert_eq!(other.waiting(10_000), None);
    let few = RegionRound::begin(order, &place, &known[..3], 0).unwrap_err();
    assert_eq!(few, "4 sites are asked for and 3 facilities are known here");
}

#[test]
fn what_cannot_be_run_is_said_before_anything_starts() {
    let known = BTreeSet::from(["us".parse().unwrap()]);
    let begin = |text: String| Course::begin("s-1".parse().unwrap(), text, &known, 0).unwrap_err();
    let median = text(4, 3, "").replace("\"fed-avg\"", "\"median\"");
    let said = begin(median);
    assert_eq!(
        said,
        "training.strategy.kind: `median` has to see single updates, which `aggregation.secure` hides"
    );
    let elsewhere = begin(format!("regions = [\"mars\"]\n{}", text(4, 3, "")));
    assert_eq!(elsewhere, "regions: there is no region `mars` here");
    assert!(begin("name = 3".into()).contains("invalid type"));
}

#[test]
fn a_member_sends_one_vector_only_and_refuses_a_model_that_is_none() {
    let world = World::new(&[&SIX[..4]], text(4, 3, ""), 5).run();
    let (facility, state) = world.members.first_key_value().unwrap();
    let mut state = state.clone();
    let ask = Ask::Train(BTreeMap::new());
    assert!(state.has_sent(), "{facility}");
    assert_eq!(
        state.answer(&ask, Some((vec![1; 3], crate::order::Told::default()))),
        None
    );
    let mut order = state.order().clone();
    order.model[0] = f32::NAN;
    let place = "regional/us/us".parse().unwrap();
    let member = crate::secagg::Member(1);
    assert!(MemberRound::begin(order.clone(), &place, member, [1; 32]).is_err());
    order.model[0] = 0.0;
    assert!(MemberRound::begin(order.clone(), &place, member, [1; 32]).is_ok());
    order.key.round = 9;
    assert!(MemberRound::begin(order, &place, member, [1; 32]).is_err());
}

#[test]
fn a_round_that_lasts_says_who_takes_part_and_for_whom_it_waits() {
    let mut world = World::new(&[&SIX[..4]], text(4, 3, ""), 5);
    world.gone.insert("fb".parse().unwrap());
    while world.step() {}
    let us: RegionId = "us".parse().unwrap();
    let round = world.regions.get_mut(&us).unwrap().2.as_mut().unwrap();
    assert_eq!(round.waiting(0), None, "it may be over in a moment");
    let said = round.waiting(world.now + 10_000).unwrap();
    let stand = said.sites.iter();
    let stand: Vec<_> = stand
        .map(|(site, of)| (site.as_str(), of.missing.as_deref()))
        .collect();
    let silent = Some("has not answered");
    assert_eq!(
        stand,
        [("fa", None), ("fb", silent), ("fc", None), ("fd", None)]
    );
    round.was_said(&said);
    *round = stored(round);
    assert_eq!(round.waiting(world.now + 10_000), None, "it was said");
    assert!(world.course.take(&us, said.clone(), world.now));
    world.course = stored(&world.course);
    let waiting = world.course.waiting().unwrap();
    assert_eq!((waiting.round, waiting.judges), (1, false));
    assert_eq!(waiting.regions, std::slice::from_ref(&us));
    let of = |site: &str| waiting.sites[&site.parse().unwrap()].clone();
    assert_eq!(of("fb"), "has not answered");
    assert_eq!(of("fa"), "takes part");
    assert!(world.course.reports().is_empty(), "it is no release");
    let mut stale = said;
    stale.key.round = 2;
    assert!(!world.course.take(&us, stale, world.now));
    for _ in 0..60 {
        while world.step() {}
        world.wait();
    }
    assert_eq!(world.course.standing(), &Standing::Done);
    assert_eq!(world.course.waiting(), None);
}
