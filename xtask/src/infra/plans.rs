//! The production plan of regions, made without an account and held against the policy; and that the policy sees what
//! it is there for, by plans that were spoilt in one place each.
use super::{Tally, policy::violations, terraform::Terraform};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// The regions that are planned: one of each jurisdiction.
const PLANNED: [(&str, &str); 3] = [
    ("us-east-1", "us"),
    ("eu-central-1", "eu"),
    ("ap-southeast-2", "apac"),
];
/// The state of a plan without an account is nowhere.
const NOWHERE: &str = "terraform {\n  backend \"local\" {}\n}\n";

/// Plans each region and checks what it would make.
pub fn check(terraform: &Terraform, copy: &Path, tally: &mut Tally) -> Result<()> {
    let stack = copy.join("stacks/region");
    fs::write(stack.join("backend_override.tf"), NOWHERE)?;
    let ready = terraform.run(&stack, &["init", "-input=false", "-no-color"])?;
    ensure!(ready.ok, "{}", ready.text);
    for (region, jurisdiction) in PLANNED {
        let what = format!("plan of {region}");
        match plan(terraform, &stack, region) {
            Err(error) => tally.say(&what, false, &format!("{error:#}")),
            Ok(plan) => {
                let lawful = lawful(&plan, jurisdiction)?;
                let found = violations(&plan, region, &lawful);
                tally.say(&what, found.is_empty(), &found.join("\n"));
                for (spoilt, text, line) in spoilt(&plan) {
                    let found = violations(&spoilt, region, &lawful);
                    let seen = found.iter().any(|one| one.contains(line));
                    tally.say(
                        &format!("{what} with {text} is refused"),
                        seen,
                        &found.join("\n"),
                    );
                }
            }
        }
    }
    Ok(())
}

fn plan(terraform: &Terraform, stack: &Path, region: &str) -> Result<Value> {
    let own = format!("-var-file=../../environments/prod/{region}.tfvars.json");
    let said = terraform.run(
        stack,
        &[
            "plan",
            "-input=false",
            "-no-color",
            "-lock=false",
            "-var-file=../../regions.tfvars.json",
            &own,
            "-var=without_account=true",
            "-out=plan",
        ],
    )?;
    ensure!(said.ok, "{}", said.text);
    let shown = terraform.run(stack, &["show", "-json", "plan"])?;
    ensure!(shown.ok, "{}", shown.text);
    serde_json::from_str(&shown.text).context("the plan as JSON")
}

/// Where the law applies: every region of the jurisdiction in the plan's own variables.
fn lawful(plan: &Value, jurisdiction: &str) -> Result<BTreeSet<String>> {
    let regions = plan["variables"]["regions"]["value"].as_object();
    let regions = regions.context("the plan has no regions")?;
    let of = regions
        .iter()
        .filter(|(_, region)| region["jurisdiction"] == jurisdiction);
    Ok(of.map(|(name, _)| name.clone()).collect())
}

/// The plan, spoilt in one place each: what was done, and words that the policy has to find.
fn spoilt(plan: &Value) -> Vec<(Value, &'static str, &'static str)> {
    const ELSEWHERE: &str = "arn:aws:kms:ca-central-1:444444444444:key/a";
    let cases: [(&str, &str, Value, &str, &str); 9] = [
        (
            "aws_rds_cluster",
            "/storage_encrypted",
            json!(false),
            "PostgreSQL in the clear",
            "is not encrypted",
        ),
        (
            "aws_rds_cluster",
            "/kms_key_id",
            json!(ELSEWHERE),
            "the key of another region",
            "is not under the region's key",
        ),
        (
            "aws_rds_cluster",
            "/backup_retention_period",
            json!(1),
            "backups of a day",
            "too short",
        ),
        (
            "aws_rds_cluster_instance",
            "/publicly_accessible",
            json!(true),
            "a public database",
            "public address",
        ),
        (
            "aws_ebs_volume",
            "/availability_zone",
            json!("ca-central-1a"),
            "a disk elsewhere",
            "is in ca-central-1a",
        ),
        (
            "aws_lb",
            "/internal",
            json!(false),
            "a public balancer",
            "public balancer",
        ),
        (
            "aws_kms_key",
            "/multi_region",
            json!(true),
            "a key that travels",
            "can be copied",
        ),
        (
            "aws_vpc_security_group_ingress_rule",
            "/cidr_ipv4",
            json!("0.0.0.0/0"),
            "an open door",
            "whole internet",
        ),
        (
            "aws_cloudwatch_log_group",
            "/retention_in_days",
            json!(7),
            "logs of a week",
            "logs too short",
        ),
    ];
    let spoil = |(kind, at, value, text, line): (&str, &str, Value, &'static str, &'static str)| {
        let mut spoilt = plan.clone();
        let changes = spoilt["resource_changes"].as_array_mut()?;
        let change = changes.iter_mut().find(|change| change["type"] == kind)?;
        let after = &mut change["change"]["after"];
        after[at.trim_start_matches('/')] = value;
        Some((spoilt, text, line))
    };
    cases.into_iter().filter_map(spoil).collect()
}
