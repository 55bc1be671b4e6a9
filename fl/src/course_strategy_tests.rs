//! Every strategy and option of a study, from its text to its model: the same whoever comes first, and over several
//! regions as over one where that is promised.
use super::*;

/// A study of four sites without secure aggregation, or with it.
fn of(strategy: &str, secure: bool, more: &str) -> String {
    let text = text(4, 3, more).replace("kind = \"fed-avg\"", strategy);
    if secure {
        text
    } else {
        text.replace("secure = true", "secure = false")
    }
}

fn done(text: &str, seed: u64) -> World {
    let world = World::new(&[&SIX[..4]], text.to_owned(), seed).run();
    assert_eq!(world.course.standing(), &Standing::Done, "{text}");
    world
}

fn accuracy(world: &World) -> f64 {
    world.course.evaluation().unwrap().pooled.unwrap().accuracy
}

#[test]
fn each_strategy_ends_with_a_model_that_has_learnt_whoever_comes_first() {
    for (strategy, secure) in [
        ("kind = \"fed-avg\"", false),
        ("kind = \"scaffold\", server_learning_rate = 1.0", true),
        ("kind = \"scaffold\", server_learning_rate = 1.0", false),
        ("kind = \"cyclic\"", false),
        ("kind = \"median\"", false),
        ("kind = \"trimmed-mean\", share = 0.25", false),
        ("kind = \"norm-bound\", norm = 0.5", false),
        ("kind = \"fed-yogi\", server_learning_rate = 0.1", false),
    ] {
        let text = of(strategy, secure, "").replace("rounds = 3", "rounds = 6");
        let first = done(&text, 0);
        assert!(accuracy(&first) > 0.8, "{strategy}: {}", accuracy(&first));
        for seed in 1..4 {
            let other = done(&text, seed);
            assert_eq!(
                bits(other.course.model()),
                bits(first.course.model()),
                "{strategy}"
            );
        }
    }
}

#[test]
fn updates_that_are_seen_come_to_the_model_that_masked_ones_come_to() {
    let masked = done(&of("kind = \"fed-avg\"", true, ""), 1);
    let seen = done(&of("kind = \"fed-avg\"", false, ""), 2);
    assert_eq!(bits(masked.course.model()), bits(seen.course.model()));
    let controlled = "kind = \"scaffold\", server_learning_rate = 1.0";
    let masked = done(&of(controlled, true, ""), 1);
    let seen = done(&of(controlled, false, ""), 2);
    assert_eq!(bits(masked.course.model()), bits(seen.course.model()));
    let plain = done(&of("kind = \"fed-avg\"", true, ""), 1);
    assert_ne!(bits(masked.course.model()), bits(plain.course.model()));
}

#[test]
fn the_mean_of_all_controls_is_the_global_one() {
    let world = done(
        &of("kind = \"scaffold\", server_learning_rate = 1.0", true, ""),
        3,
    );
    let all = world.course.coordinator.control();
    assert!(all.iter().any(|control| control.abs() > 1e-3), "{all:?}");
    for (at, control) in all.iter().enumerate() {
        let own = world.memories.values().map(|kept| {
            let (_, last) = kept.last_key_value().unwrap();
            f64::from(last.control[at])
        });
        let mean = own.sum::<f64>() / 4.0;
        assert!(
            (mean - f64::from(*control)).abs() < 1e-4,
            "{mean} {control}"
        );
    }
}

#[test]
fn sites_of_a_cyclic_study_train_one_after_another_in_every_region_and_a_lost_one_is_skipped() {
    let text = of("kind = \"cyclic\"", false, "").replace("rounds = 3", "rounds = 4");
    let text = text
        .replace("sites = 4", "sites = 2")
        .replace("quorum = 3", "quorum = 1");
    let world = World::new(&[&SIX[..2], &SIX[2..4]], text.clone(), 4).run();
    assert_eq!(world.course.standing(), &Standing::Done);
    let who = |world: &World| -> Vec<String> {
        let rounds = world.course.reports().iter().take(4);
        rounds
            .map(|report| {
                let in_it = report
                    .sites
                    .iter()
                    .filter(|(_, site)| site.missing.is_none());
                let names: Vec<_> = in_it.map(|(name, _)| name.to_string()).collect();
                assert_eq!(names.len(), 1, "{report:?}");
                names[0].clone()
            })
            .collect()
    };
    // The regions in the order of their names: `eu` has the second two.
    assert_eq!(who(&world), ["fc", "fd", "fa", "fb"]);
    let mut world = World::new(&[&SIX[..2], &SIX[2..4]], text, 5);
    world.gone.insert("fc".parse().unwrap());
    for _ in 0..40 {
        while world.step() {}
        world.wait();
    }
    assert_eq!(world.course.standing(), &Standing::Done);
    assert_eq!(who(&world), ["fd", "fd", "fa", "fb"]);
    let first = &world.course.reports()[0].sites[&"fc".parse().unwrap()];
    assert_eq!(
        first.missing.as_deref(),
        Some("did not answer in the step `invite`")
    );
}

#[test]
fn a_site_that_sends_what_no_honest_one_sends_is_named_and_the_others_go_on() {
    let world = World::new(&[&SIX[..4]], of("kind = \"fed-avg\"", false, ""), 5);
    let order = world.course.orders().remove(0).1;
    let place = "regional/us/us".parse().unwrap();
    let known: Vec<FacilityId> = SIX[..4].iter().map(|name| name.parse().unwrap()).collect();
    let mut round = RegionRound::begin(order, &place, &known, 0).unwrap();
    for facility in &known {
        round.take(facility, Answer::Accepted, 1);
    }
    let update = |numbers| Answer::Update {
        numbers,
        large: None,
        told: crate::order::Told::default(),
    };
    // A thousand times the bound; a wrong shape; good ones; and another one again.
    assert_eq!(
        round.take(&known[0], update(vec![1 << 28, 0, 0]), 2),
        Taken::Now
    );
    assert_eq!(round.take(&known[1], update(vec![1, 2, 3]), 2), Taken::Now);
    assert_eq!(round.take(&known[1], update(vec![1, 2, 4]), 2), Taken::Not);
    assert_eq!(round.take(&known[2], update(vec![4, 5, 6]), 2), Taken::Now);
    assert_eq!(round.refuse(&known[3], 2), Taken::Now);
    let release = round.release().unwrap();
    let Outcome::Failed(why) = &release.outcome else {
        panic!("{release:?}");
    };
    assert!(
        why.contains("fa was refused: the sum of 1 has a norm of 268435456 units"),
        "{why}"
    );
    assert!(why.contains("fd was refused: it is no answer"), "{why}");
    let said = release.sites[&known[0]].missing.clone().unwrap();
    assert!(said.starts_with("was refused"), "{said}");
}

#[test]
fn a_release_that_no_honest_region_comes_to_ends_the_round_and_names_the_region() {
    let begun = || {
        let mut world = World::new(&[&SIX[..4]], text(4, 3, ""), 5);
        let region: RegionId = "us".parse().unwrap();
        world.course.was_ordered(&region);
        (world.course, region)
    };
    let (course, region) = begun();
    let key = course.key();
    let release = |numbers: Vec<u32>, members| Release {
        key: key.clone(),
        outcome: Outcome::Summed {
            numbers,
            large: None,
            members,
        },
        sites: BTreeMap::new(),
        bytes: 0,
        asked: true,
    };
    for (bad, said) in [
        (
            release(vec![1 << 30, 0, 0], 4),
            "has a norm of 1073741824 units, and 1048576 at most",
        ),
        (release(vec![1, 2], 4), "the sum has 2 numbers, not 3"),
        (release(vec![1, 2, 3], 2), "is said to be of 2 sites"),
        (release(vec![1, 2, 3], 5), "is said to be of 5 sites"),
    ] {
        let (mut course, region) = begun();
        assert!(course.take(&region, bad, 1));
        let Standing::Failed(why) = course.standing() else {
            panic!("{said}");
        };
        assert!(
            why.starts_with("round 1: region us: ") && why.contains(said),
            "{why}"
        );
    }
    // Of another round, of another region: nothing.
    let mut course = course;
    let mut stale = release(vec![1, 2, 3], 4);
    stale.key.round = 2;
    assert!(!course.take(&region, stale, 1));
    assert!(!course.take(&"eu".parse().unwrap(), release(vec![1, 2, 3], 4), 1));
    assert!(course.take(&region, release(vec![1, 2, 3], 4), 1));
    assert!(!course.take(&region, release(vec![9, 2, 3], 4), 1));
}

#[test]
fn models_that_are_tuned_at_their_sites_are_judged_there_and_pooled() {
    let tuned = "personalisation = { steps = 20, learning_rate = 0.5 }";
    let world = done(
        &of("kind = \"fed-avg\"", true, "").replacen("name =", &format!("{tuned}\nname ="), 1),
        1,
    );
    let found = world.course.evaluation().unwrap();
    let personal = found.personal.as_ref().unwrap();
    assert_eq!(
        (personal.sites.len(), personal.pooled.unwrap().records),
        (4, 120)
    );
    let (own, all) = (personal.pooled.unwrap().brier, found.pooled.unwrap().brier);
    assert!(own < all, "{own} {all}");
    let plain = done(&of("kind = \"fed-avg\"", true, ""), 1);
    assert_eq!(bits(plain.course.model()), bits(world.course.model()));
}

#[test]
fn coarse_numbers_with_what_they_lose_kept_reach_the_model_of_fine_ones() {
    let fine = done(
        &of("kind = \"fed-avg\"", true, "").replace("rounds = 3", "rounds = 8"),
        1,
    );
    for (numbers, far) in [(8, 0.05), (4, 0.4)] {
        let compressed = format!("quorum = 3, compression = {{ bits = {numbers}, range = 1.0 }}");
        let text = of("kind = \"fed-avg\"", true, "").replace("quorum = 3", &compressed);
        let text = text.replace("rounds = 3", "rounds = 8");
        let first = done(&text, 2);
        let other = done(&text, 3);
        assert_eq!(bits(first.course.model()), bits(other.course.model()));
        let open = done(&text.replace("secure = true", "secure = false"), 4);
        assert_eq!(bits(first.course.model()), bits(open.course.model()));
        for (coarse, fine) in first.course.model().iter().zip(fine.course.model()) {
            assert!((coarse - fine).abs() < far, "{numbers}: {coarse} {fine}");
        }
        let bytes = |world: &World| world.course.reports()[0].bytes;
        assert!(bytes(&first) * 2 < bytes(&fine), "{}", bytes(&first));
    }
}

#[test]
fn an_adaptive_clip_follows_the_updates_and_every_place_goes_by_the_same_one() {
    let hidden = "privacy = { unit = \"facility\", epsilon = 60.0, delta = 1e-4, clip = 0.05, adaptive = { quantile = 0.5, rate = 1.0 } }";
    let text = text(4, 4, hidden)
        .replace(", bound = 8.0", ", units = 65536")
        .replace("rounds = 3", "rounds = 8");
    let world = done(&text, 1);
    let clip = world.course.clip.unwrap();
    // Updates are far longer than 0.05 in the beginning: the clip has grown.
    assert!(clip > 0.1, "{clip}");
    let spent = world.course.spent(8).unwrap();
    assert!(spent <= 60.0 && spent > 50.0, "{spent}");
}

/// A round of eight sites in which everybody is asked to train, and what each answers.
fn at_training(secure: bool) -> (RegionRound, Vec<(FacilityId, Answer)>) {
    let text = of("kind = \"fed-avg\"", secure, "").replace("sites = 4", "sites = 8");
    let text = text.replace("quorum = 3", "quorum = 5");
    let known: Vec<FacilityId> = (0..8).map(|at| format!("f{at}").parse().unwrap()).collect();
    let regions = BTreeSet::from(["us".parse().unwrap()]);
    let course = Course::begin("small-1".parse().unwrap(), text, &regions, 0).unwrap();
    let order = course.orders().remove(0).1;
    let place = "regional/us/us".parse().unwrap();
    let mut round = RegionRound::begin(order.clone(), &place, &known, 0).unwrap();
    let mut members: BTreeMap<_, _> = BTreeMap::new();
    let mut updates = Vec::new();
    while updates.len() < 8 {
        for (member, facility, ask) in round.asks() {
            round.was_asked(member, &ask);
            let state = members.entry(facility.clone()).or_insert_with(|| {
                MemberRound::begin(order.clone(), &place, member, [member.0 as u8; 32]).unwrap()
            });
            let own = u32::from(member.0);
            let numbers = vec![own * 1_000, own.wrapping_neg(), 7];
            let made = matches!(ask, Ask::Train(_)).then(|| (numbers, order::Told::default()));
            let answer = state.answer(&ask, made).unwrap();
            if matches!(ask, Ask::Train(_)) {
                updates.push((facility, answer));
            } else {
                round.take(&facility, answer, 1);
            }
        }
    }
    (round, updates)
}

#[test]
fn a_thousand_orders_of_arrival_with_repetitions_come_to_the_same_sum_to_the_last_bit() {
    let mut random = StdRng::seed_from_u64(9);
    for secure in [true, false] {
        let (round, mut updates) = at_training(secure);
        let mut first: Option<RegionRound> = None;
        for _ in 0..1_000 {
            updates.shuffle(&mut random);
            let mut state = round.clone();
            for (at, (facility, answer)) in updates.iter().enumerate() {
                assert_eq!(state.take(facility, answer.clone(), 2), Taken::Now);
                let (before, again) = &updates[random.random_range(0..=at)];
                assert_eq!(state.take(before, again.clone(), 2), Taken::Not);
            }
            match &first {
                None => first = Some(state),
                Some(first) => assert_eq!(&state, first),
            }
        }
    }
}

/// Records of three windows whose label is what the first window says, and of subjects whose hazard follows it.
fn of_kind(kind: &str, facility: &FacilityId, count: usize) -> Records {
    let inputs = if kind == "cox" { 2 } else { 6 };
    let own = facility.as_str().bytes().map(u64::from).sum();
    let mut random = StdRng::seed_from_u64(own);
    let (mut values, mut labels, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let row: Vec<f32> = (0..inputs)
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let hazard = (1.5 * f64::from(row[0])).exp();
        labels.push(if kind == "cox" {
            random.random_bool(0.8)
        } else {
            row[0] > 0.0
        });
        times.push(-random.random_range(0.01_f64..1.0).ln() / hazard);
        values.extend(row);
    }
    if kind == "cox" {
        Records::survival(inputs, values, labels, times).unwrap()
    } else {
        Records::new(inputs, values, labels).unwrap()
    }
}

/// A study of a model of a kind, its records hidden or not.
fn text_of_kind(kind: &str, more: &str, private: bool) -> String {
    let model = format!("kind = \"{kind}\"{more}");
    let mut text = text(4, 4, "").replace("kind = \"logistic\"", &model);
    text = text
        .replace("rounds = 3", "rounds = 8")
        .replace("steps = 5", "steps = 40");
    if kind == "cox" {
        text = text.replace(
            "{ kind = \"binary\", column = \"l\" }",
            "{ kind = \"survival\", time = \"d\", event = \"l\" }",
        );
    } else {
        text = text.replace("table = \"t\",", "table = \"t\", windows = 3,");
    }
    if private {
        let scaled = "missing = \"zero\", scale = { centre = 0, width = 1 }";
        text = text
            .replace("missing = \"zero\"", scaled)
            .replace("steps = 40", "steps = 10");
        text += "privacy = { unit = \"record\", epsilon = 20.0, delta = 1e-4, clip = 1.0 }";
    }
    text
}

#[test]
fn models_over_windows_and_of_hazards_are_learnt_to_their_end_and_private_ones_pay() {
    for (kind, more, private) in [
        ("gru", ", hidden = 4", false),
        ("tcn", ", channels = [4], kernel = 3", false),
        ("gru", ", hidden = 4", true),
        ("cox", "", false),
    ] {
        let text = text_of_kind(kind, more, private);
        let study = order::parse(&text).unwrap();
        let plan = study.plan().unwrap();
        let net = site::model(&study).unwrap();
        let codec = site::codec(&study, &net).unwrap();
        let mut random = StdRng::seed_from_u64(4);
        let mut coordinator = Coordinator::new(net.initial(&mut random)).unwrap();
        let sites: Vec<FacilityId> = SIX[..4].iter().map(|name| name.parse().unwrap()).collect();
        for _ in 0..study.training.rounds {
            let mut sum = vec![0_i64; codec.numbers()];
            for facility in &sites {
                let own = of_kind(kind, facility, 80);
                let start = coordinator.model();
                let sent = site::update(&study, &plan, start, &own, &mut random).unwrap();
                let whole = sent.iter().map(|number| i64::from(number.cast_signed()));
                sum.iter_mut()
                    .zip(whole)
                    .for_each(|(sum, number)| *sum += number);
            }
            let mean = codec.mean_of(&sum, 4).unwrap();
            coordinator.step(&study.training.strategy, &mean).unwrap();
        }
        let mut counts = vec![0_i64; crate::judge::numbers(&study)];
        for facility in &sites {
            let test = of_kind(kind, facility, 200);
            let judged =
                crate::judge::of(&net, coordinator.model(), None, &test, (1_000, &mut random))
                    .unwrap();
            assert_eq!(judged.told.concordance.is_some(), kind == "cox");
            assert_eq!(judged.numbers.len(), crate::judge::numbers(&study));
            if let Some(c) = judged.told.concordance {
                let within = judged.told.concordance_within.unwrap();
                assert!(within.low < c && c < within.high, "{c} {within:?}");
            }
            let whole = judged.numbers.iter().map(|number| i64::from(*number));
            counts
                .iter_mut()
                .zip(whole)
                .for_each(|(sum, number)| *sum += number);
        }
        let found = crate::judge::pooled(&study, &counts, &mut random).unwrap();
        let (figure, least) = match kind {
            "cox" => (found.concordance.unwrap(), 0.65),
            _ => {
                let least = if private { 0.6 } else { 0.8 };
                (found.model.unwrap().auroc.unwrap(), least)
            }
        };
        if kind == "cox" {
            // Of four times as many subjects as at a site.
            let within = found.concordance_within.unwrap();
            assert!(within.low < figure && figure < within.high, "{within:?}");
            assert!(within.high - within.low < 0.08, "{within:?}");
            assert_eq!(found.subjects, 800);
        }
        assert!(figure > least, "{kind} {private}: {figure}");
        assert_eq!(plan.spend.is_some(), private);
    }
}
