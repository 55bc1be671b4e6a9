//! Profiles and devices, right and wrong.
use super::*;

#[test]
fn the_built_in_profiles_have_no_problems_and_fit_into_their_limits() {
    for (file, text) in BUILT_IN {
        let profile: Profile =
            toml::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(profile.problems(), [], "{file}");
        assert_eq!(format!("{}.toml", profile.name), *file);
        assert!(profile.plan().is_ok());
    }
}

#[test]
fn what_a_profile_takes_of_commands_is_what_regions_offer_of_its_kind() {
    for (name, kind) in [
        ("medmesh-monitor", DeviceKind::BedsideMonitor),
        ("xy-md02", DeviceKind::ColdChain),
        ("xy-md02-x100", DeviceKind::ColdChain),
    ] {
        let profiles = BUILT_IN
            .iter()
            .map(|(_, text)| toml::from_str(text).unwrap());
        let mut profiles = profiles.filter(|profile: &Profile| profile.name == name);
        let profile = profiles.next().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(profile.command, commands::Table::built_in(kind), "{name}");
    }
}

#[test]
fn every_problem_of_a_table_of_commands_is_reported_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let text = BUILT_IN[0]
        .1
        .replace("range = [\"1s\", \"1h\"]", "range = [\"1h\", \"1s\"]")
        .replace("address = 64\nwords = 2", "address = 65535\nwords = 2")
        .replace("parameter = \"spo2-low\"", "parameter = \"spo2\"");
    let text = format!("{text}\n[[command]]\nname = \"beep\"\n");
    fs::write(directory.path().join("bad.toml"), text).unwrap();
    let errors = Profiles::load(directory.path()).unwrap_err();
    let problems = errors.iter().flat_map(|error| &error.problems);
    let keys: Vec<&str> = problems.map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        keys,
        [
            "command[0].parameters[0].range",
            "command[0].write[0].address",
            "command[1].write[2].parameter",
            "command[4].write",
        ]
    );
}

#[test]
fn the_monitor_is_read_in_one_request() {
    let profile: Profile = toml::from_str(BUILT_IN[0].1).unwrap();
    let reads = profile.plan().unwrap().reads;
    assert_eq!(
        reads
            .iter()
            .map(|read| (read.address, read.count))
            .collect::<Vec<_>>(),
        [(1, 56)]
    );
}

#[test]
fn every_problem_of_a_profile_is_reported_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let text = BUILT_IN[1]
        .1
        .replace("interval = \"1m\"", "interval = \"0s\"\ncolour = 1")
        .replace("max_read = 2", "max_read = 200")
        .replace("type = \"i16\"", "type = \"bool\"")
        .replace("[0, 100]", "[100, 0]")
        .replace("unit = \"%\"", "unit = \"Cel\"");
    fs::write(directory.path().join("bad.toml"), &text).unwrap();
    fs::write(directory.path().join("good.toml"), BUILT_IN[1].1).unwrap();
    let errors = Profiles::load(directory.path()).unwrap_err();
    let mut keys: Vec<&str> = errors
        .iter()
        .flat_map(|error| &error.problems)
        .map(|problem| problem.path.as_str())
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "colour",
            "interval",
            "limits.max_read",
            "points[0].scale",
            "points[0].type",
            "points[1].range",
            "points[1].unit"
        ]
    );
}

/// The keys of what is wrong with a profile of one point.
fn wrong(point: &str, more: &str) -> Vec<String> {
    let text = format!(
        "name = 'p'\nmodel = 'p'\ninterval = '1s'\ntimeout = '1s'\nstale_after = '1m'\nlate_after = '1m'\n{more}\n\
         [[points]]\ncode = 'urn:medmesh:code|relative-humidity'\nunit = '%'\naddress = 1\n{point}\n"
    );
    let profile: Profile = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    profile.problems().into_iter().map(|it| it.path).collect()
}

#[test]
fn what_sites_need_of_a_profile_is_understood() {
    for point in [
        "type = 'u64'\nscale = '0.001'",
        "type = 'i64'\nword_order = 'little'\nno_data = -1",
        "type = 'u64'\nno_data = ['18446744073709551615', '0x8000000000000000']",
        "type = 'f64'\noffset = '-273.15'\nno_data = [-999.9, 1e30]",
        "type = 'i16'\nno_data = [-32768, 0x7fff, 65535]",
        "type = 'u16'\nno_data = []",
        "type = 'bool'\nspace = 'coil'",
        "type = 'bool'\nspace = 'discrete'\nrange = [0, 0]",
    ] {
        assert_eq!(wrong(point, ""), [""; 0], "{point}");
    }
    let timing = "[timing]\nafter_connect = '1s'\nbetween_requests = '50ms'\nfirst_request_lost = true\n\
                  reconnect_after = 5\nlongest_answer = '5s'\ncopies_within = '0s'\nbarriers = false\n[limits]\nmax_read_bits = 16";
    assert_eq!(wrong("type = 'u16'", timing), [""; 0]);
}

#[test]
fn what_no_registers_or_device_can_be_is_a_problem_at_its_key() {
    for (point, key) in [
        ("type = 'bool'", "type"),
        ("type = 'u16'\nspace = 'coil'", "type"),
        ("type = 'bool'\nspace = 'coil'\nscale = '0.1'", "scale"),
        ("type = 'bool'\nspace = 'coil'\noffset = '1'", "offset"),
        ("type = 'bool'\nspace = 'coil'\nno_data = 1", "no_data"),
        ("type = 'i16'\nno_data = [1, 65536]", "no_data"),
        ("type = 'u16'\nno_data = -32769", "no_data"),
        ("type = 'u32'\nno_data = 0.5", "no_data"),
        ("type = 'u32'\nno_data = '18446744073709551615'", "no_data"),
        ("type = 'f32'\nno_data = inf", "no_data"),
    ] {
        assert_eq!(wrong(point, ""), [format!("points[0].{key}")], "{point}");
    }
    for (timing, key) in [
        ("[timing]\nafter_connect = '61s'", "timing.after_connect"),
        (
            "[timing]\nbetween_requests = '2m'",
            "timing.between_requests",
        ),
        ("[timing]\nreconnect_after = 0", "timing.reconnect_after"),
        (
            "[timing]\nlongest_answer = '999ms'",
            "timing.longest_answer",
        ),
        ("[limits]\nmax_read_bits = 2001", "limits.max_read_bits"),
    ] {
        assert_eq!(wrong("type = 'u16'", timing), [key], "{timing}");
    }
}

/// The registers of a profile, and what is asked to find out whether an answer is still owed.
#[test]
fn no_request_of_a_profile_looks_like_its_barrier() {
    let barrier = |points: &str| {
        let text = format!(
            "name = 'p'\nmodel = 'p'\ninterval = '1s'\ntimeout = '1s'\nstale_after = '1m'\nlate_after = '1m'\n\
             points = [{points}]"
        );
        let profile: Profile = toml::from_str(&text).unwrap();
        let plan = profile.plan().unwrap();
        let barrier = profile.barrier(&plan).unwrap();
        for read in &plan.reads {
            let same = read.space == barrier.space;
            assert!(!same || (!barrier.alone && !barrier.counts.contains(&read.count)));
        }
        (barrier.space, barrier.address, barrier.counts)
    };
    let point = |space: &str, address: u16, kind: &str| {
        format!(
            "{{code='urn:medmesh:code|relative-humidity',unit='%',space='{space}',address={address},type='{kind}'}},"
        )
    };
    assert_eq!(
        barrier(&point("input", 7, "u16")),
        (Space::Holding, 7, (1..9).collect())
    );
    assert_eq!(
        barrier(&point("holding", 7, "u16")),
        (Space::Input, 7, (1..9).collect())
    );
    assert_eq!(
        barrier(&point("coil", 7, "bool")),
        (Space::Holding, 7, (1..9).collect())
    );
    let both = [
        point("input", 1, "u16"),
        point("holding", 7, "u16"),
        point("holding", 20, "u32"),
    ];
    assert_eq!(
        barrier(&both.concat()),
        (Space::Holding, 7, (3..11).collect())
    );
}

fn device(id: &str, kind: DeviceKind, profile: Option<&str>, address: Option<&str>) -> Device {
    Device {
        id: id.parse().unwrap(),
        kind,
        profile: profile.map(Into::into),
        address: address.map(Into::into),
        unit_id: 1,
    }
}

#[test]
fn units_0_and_255_are_devices_on_tcp_and_not_on_a_serial_line() {
    let mut profiles = Profiles::default();
    profiles.insert(toml::from_str(BUILT_IN[1].1).unwrap());
    let devices: Vec<Device> = [
        ("a", "tcp://plc:502", 0),
        ("b", "tcp://plc:502", 255),
        ("c", "rtu+tcp://server:4001", 0),
        ("d", "rtu+tcp://server:4001", 248),
        ("e", "rtu:///dev/ttyS0", 0),
        ("f", "rtu:///dev/ttyS1?baud=9600", 247),
        ("g", "rtu:///dev/ttyS1?baud=19200", 1),
        ("h", "tcp://server:4001", 1),
    ]
    .iter()
    .map(|(id, address, unit)| Device {
        unit_id: *unit,
        ..device(id, DeviceKind::ColdChain, Some("xy-md02"), Some(address))
    })
    .collect();
    let found: Vec<String> = problems(&devices, &profiles)
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(
        found,
        [
            "devices[2].unit_id",
            "devices[3].unit_id",
            "devices[4].unit_id",
            "devices[6].address",
            "devices[7].address"
        ]
    );
}

#[test]
fn a_device_without_its_profile_line_or_own_unit_is_refused() {
    let mut profiles = Profiles::default();
    profiles.insert(toml::from_str(BUILT_IN[1].1).unwrap());
    let (known, there) = (Some("xy-md02"), Some("tcp://127.0.0.1:502"));
    let devices = [
        device("a", DeviceKind::ColdChain, known, there),
        device("b", DeviceKind::ColdChain, known, there),
        Device {
            unit_id: 0,
            ..device("c", DeviceKind::ColdChain, Some("nothing"), Some("udp://x"))
        },
        device("d", DeviceKind::BedsideMonitor, None, None),
        device("e", DeviceKind::LabAnalyser, None, None),
        device("f", DeviceKind::External, known, None),
    ];
    let found: Vec<String> = problems(&devices, &profiles)
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(
        found,
        [
            "devices[1].unit_id",
            "devices[2].profile",
            "devices[2].address",
            "devices[3].profile",
            "devices[5].address"
        ]
    );
}
