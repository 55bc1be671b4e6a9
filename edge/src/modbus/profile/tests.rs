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
        .replace("type = \"i16\"", "type = \"f32\"")
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
            "points[1].range",
            "points[1].unit"
        ]
    );
}

#[test]
fn a_device_without_its_profile_line_or_own_unit_is_refused() {
    let mut profiles = Profiles::default();
    profiles.insert(toml::from_str(BUILT_IN[1].1).unwrap());
    let devices: Vec<DeviceConfig> = [
        "id = 'a'\nkind = 'cold-chain'\nprofile = 'xy-md02'\naddress = 'tcp://127.0.0.1:502'",
        "id = 'b'\nkind = 'cold-chain'\nprofile = 'xy-md02'\naddress = 'tcp://127.0.0.1:502'",
        "id = 'c'\nkind = 'cold-chain'\nprofile = 'nothing'\naddress = 'udp://x'\nunit_id = 0",
        "id = 'd'\nkind = 'bedside-monitor'",
        "id = 'e'\nkind = 'lab-analyser'",
        "id = 'f'\nkind = 'external'\nprofile = 'xy-md02'",
    ]
    .iter()
    .map(|text| toml::from_str(text).unwrap())
    .collect();
    let found: Vec<String> = problems(&devices, &profiles)
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(
        found,
        [
            "devices[1].unit_id",
            "devices[2].profile",
            "devices[2].unit_id",
            "devices[2].address",
            "devices[3].profile",
            "devices[5].address"
        ]
    );
}
