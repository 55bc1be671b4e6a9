//! A file of the mesh, `regions.tfvars.json`, in which one thing is wrong: each is refused by the plan, with words that name
//! where. Planned is the mesh on one machine, which needs no provider; the guards are those of every environment.
use super::{Tally, terraform::Terraform};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, path::Path};

const FILE: &str = "regions.tfvars.json";
const ROOT: &str = "environments/local";

/// Where (a JSON pointer), what stands there then (JSON; nothing: the key is not there), and what is said, all of it.
type Wrong = (&'static str, &'static str, &'static [&'static str]);

const VALUES: [Wrong; 44] = [
    (
        "/regions/us-east-1/pair",
        "",
        &["us-east-1", "\"pair\" is required"],
    ),
    (
        "/regions/us-east-1/pair",
        "null",
        &["A pair", "us-east-1 ->"],
    ),
    (
        "/regions/us-east-1/pair",
        "\"us-east-1\"",
        &["A pair", "us-east-1 -> us-east-1"],
    ),
    (
        "/regions/us-east-1/pair",
        "\"us-east-2\"",
        &["A pair", "us-east-1 -> us-east-2"],
    ),
    (
        "/regions/us-east-1/pair",
        "[\"us-west-2\"]",
        &["regions.us-east-1.pair is not a text"],
    ),
    (
        "/regions/us-east-1/jurisdiction",
        "\"mars\"",
        &["jurisdiction", "us-east-1 (mars)"],
    ),
    (
        "/regions/us-east-1/jurisdiction",
        "\"US\"",
        &["jurisdiction", "us-east-1 (US)"],
    ),
    (
        "/regions/us-east-1/jurisdiction",
        "\"eu\"",
        &["\"us-east-1\" is declared eu"],
    ),
    (
        "/regions/us-east-1/jurisdiction",
        "",
        &["us-east-1", "\"jurisdiction\" is required"],
    ),
    (
        "/regions/us-east-1/port_base",
        "0",
        &["port_base", "region us-east-1"],
    ),
    (
        "/regions/us-east-1/port_base",
        "-1",
        &["port_base", "region us-east-1"],
    ),
    (
        "/regions/us-east-1/port_base",
        "70000",
        &["port_base", "region us-east-1"],
    ),
    (
        "/regions/us-east-1/port_base",
        "21100.5",
        &["port_base", "region us-east-1"],
    ),
    (
        "/regions/us-east-1/port_base",
        "21200",
        &[
            "port_base",
            "21200 of region us-east-1 and region us-west-2",
        ],
    ),
    (
        "/regions/us-east-1/port_base",
        "\"many\"",
        &["us-east-1", "regions.us-east-1.port_base is not a number"],
    ),
    (
        "/regions/us-east-1/cidr",
        "\"10.11.0.0/16\"",
        &["cidr", "us-east-1 (10.11.0.0/16)"],
    ),
    (
        "/regions/us-east-1/cidr",
        "\"10.1.0.0/16\"",
        &["cidr", "us-east-1 (10.1.0.0/16)"],
    ),
    (
        "/regions/us-east-1/cidr",
        "\"10.0.0.0/8\"",
        &["cidr", "us-east-1 (10.0.0.0/8)"],
    ),
    (
        "/regions/us-east-1/cidr",
        "\"10.10.0.1/16\"",
        &["cidr", "us-east-1 (10.10.0.1/16)"],
    ),
    (
        "/regions/us-east-1/cidr",
        "\"8.8.0.0/16\"",
        &["cidr", "us-east-1 (8.8.0.0/16)"],
    ),
    (
        "/regions/us-east-1/backup",
        "\"eu-west-1\"",
        &["backups of us-east-1", "eu-west-1"],
    ),
    (
        "/regions/us-east-1/key_arn",
        "\"alias/a\"",
        &["key_arn", "us-east-1"],
    ),
    (
        "/regions/us-east-1/canary",
        "\"perhaps\"",
        &["regions.us-east-1.canary is not true or false"],
    ),
    (
        "/regions/us-east-1/nodes",
        "0",
        &["regions.us-east-1.nodes"],
    ),
    (
        "/regions/us-east-1/retention_days",
        "-1",
        &["regions.us-east-1.retention_days"],
    ),
    ("/regions", "[]", &["regions is no object"]),
    (
        "/regions/us-east-1",
        "null",
        &["regions.us-east-1 is no object"],
    ),
    (
        "/global/port_base",
        "true",
        &["global.port_base is not a number"],
    ),
    (
        "/regions",
        "{}",
        &["in regions", "boston-general -> us-east-1"],
    ),
    (
        "/facilities/boston-general/region",
        "\"eu-west-1\"",
        &["boston-general (us)", "eu-west-1 (eu)"],
    ),
    (
        "/facilities/boston-general/region",
        "\"us-east-2\"",
        &["in regions", "boston-general -> us-east-2"],
    ),
    (
        "/facilities/boston-general/region",
        "[\"us-east-1\", \"us-west-2\"]",
        &["facilities.boston-general.region is not a text"],
    ),
    (
        "/facilities/boston-general/port_base",
        "21000",
        &["port_base", "21000 of global and facility boston-general"],
    ),
    (
        "/facilities/boston-general/port_base",
        "32767",
        &["port_base", "facility boston-general"],
    ),
    (
        "/facilities/boston-general/beds",
        "0",
        &["beds", "boston-general"],
    ),
    (
        "/facilities/boston-general/beds",
        "1.5",
        &["beds", "boston-general"],
    ),
    (
        "/facilities/boston-general/beds",
        "\"two\"",
        &["facilities.boston-general.beds is not a number"],
    ),
    (
        "/jurisdictions/us/account_id",
        "\"222222222222\"",
        &["account_id", "eu, us"],
    ),
    (
        "/jurisdictions/us/account_id",
        "\"1111\"",
        &["account_id", "not so of: us"],
    ),
    (
        "/jurisdictions/us/domain",
        "\"US.example.org\"",
        &["domain", "not so of: us"],
    ),
    (
        "/jurisdictions/mars",
        "{\"account_id\": \"555555555555\", \"domain\": \"mars.example.org\"}",
        &["jurisdictions", "unknown: \"mars\""],
    ),
    (
        "/global/region",
        "\"eu-west-2\"",
        &["global.region: eu-west-2"],
    ),
    (
        "/global/cidr",
        "\"10.20.0.0/16\"",
        &["cidr", "eu-central-1 (10.20.0.0/16)"],
    ),
    (
        "/only_jurisdictions",
        "[\"mars\"]",
        &["only_jurisdictions", "mars"],
    ),
];
/// What only the text of a file can have: these words, those instead of them, and what is said.
const TEXTS: [Wrong; 9] = [
    (
        "\"us-west-2\": {",
        "\"us-east-1\": {",
        &["Duplicate", "in regions"],
    ),
    (
        "\"seattle-clinic\": {",
        "\"boston-general\": {",
        &["Duplicate", "in facilities"],
    ),
    (
        "\"pair\": \"us-west-2\",",
        "\"pair\": \"us-west-2\", \"pair\": \"us-east-1\",",
        &["Duplicate", "in regions.us-east-1"],
    ),
    (
        "\"boston-general\": {",
        "\"\": {",
        &["A facility's name", "not so of: \"\""],
    ),
    (
        "\"boston-general\": {",
        "\"Boston\": {",
        &["A facility's name", "not so of: \"Boston\""],
    ),
    (
        "\"boston-general\": {",
        "\"../boston\": {",
        &["A facility's name", "not so of: \"../boston\""],
    ),
    (
        "\"us-east-1\": {",
        "\"\": {",
        &["the region \"\" is declared us"],
    ),
    (
        "\"us-east-1\": {",
        "\"US-EAST-1\": {",
        &["the region \"US-EAST-1\" is declared us"],
    ),
    (
        "\"regions\": {",
        "\"regoins\": {",
        &["\"regions\" is not set"],
    ),
];

/// Plans the mesh once for each of them.
pub fn check(terraform: &Terraform, copy: &Path, tally: &mut Tally) -> Result<()> {
    let file = copy.join(FILE);
    let whole = fs::read_to_string(&file).context(FILE)?;
    let ready = terraform.init(&copy.join(ROOT))?;
    if !ready.ok {
        tally.note(ROOT, ready);
        return Ok(());
    }
    let good: Value = serde_json::from_str(&whole).context(FILE)?;
    let mut all = vec![("nothing wrong".to_owned(), whole.clone(), None)];
    for (at, value, says) in VALUES {
        let wrong = serde_json::to_string_pretty(&changed(&good, at, value)?)?;
        let shown = if value.is_empty() { "nothing" } else { value };
        all.push((format!("{at} is {shown}"), wrong, Some(says)));
    }
    for (from, to, says) in TEXTS {
        ensure!(whole.contains(from), "{FILE} has no {from}");
        let wrong = whole.replacen(from, to, 1);
        all.push((format!("{from} is {to}"), wrong, Some(says)));
    }
    for (what, text, says) in all {
        fs::write(&file, text)?;
        let (ok, found) = planned(terraform, &copy.join(ROOT), says)?;
        tally.say(&format!("{FILE}, {what}"), ok, &found);
    }
    fs::write(&file, whole).context(FILE)
}

/// Whether the plan is refused with all of these words, or is none to be refused; and what it says.
fn planned(terraform: &Terraform, root: &Path, says: Option<&[&str]>) -> Result<(bool, String)> {
    let values = format!("-var-file=../../{FILE}");
    // No program is started by a plan: any file stands for it.
    let arguments = [
        "plan",
        "-input=false",
        "-no-color",
        "-lock=false",
        values.as_str(),
        "-var=binary=main.tf",
    ];
    let said = terraform.run(root, &arguments)?;
    // Lines are broken where they are long.
    let words: Vec<&str> = said.text.split_whitespace().collect();
    let text = words.join(" ");
    let ok = match says {
        None => said.ok,
        Some(says) => !said.ok && says.iter().all(|says| text.contains(says)),
    };
    Ok((ok, said.text))
}

/// The file with another value in one place, or without what is there.
fn changed(good: &Value, at: &str, value: &str) -> Result<Value> {
    let mut wrong = good.clone();
    let (parent, key) = at.rsplit_once('/').context("a pointer")?;
    let object = wrong.pointer_mut(parent).and_then(Value::as_object_mut);
    let object = object.with_context(|| format!("{FILE} has no {parent}"))?;
    if value.is_empty() {
        object.remove(key);
    } else {
        object.insert(key.to_owned(), serde_json::from_str(value).context("JSON")?);
    }
    Ok(wrong)
}
