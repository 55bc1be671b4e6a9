//! The production plan of regions, made without an account and held against the policy; and that the policy sees what
//! it is there for, by plans that were spoilt in one place each.
use super::{Tally, policy::violations, terraform::Terraform};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The regions that are planned: one of each jurisdiction.
const PLANNED: [(&str, &str); 3] = [
    ("us-east-1", "us"),
    ("eu-central-1", "eu"),
    ("ap-southeast-2", "apac"),
];
/// The state of a plan without an account is nowhere.
const NOWHERE: &str = "terraform {\n  backend \"local\" {}\n}\n";

/// One thing made wrong in a good plan.
struct Spoil {
    /// Of which resource.
    kind: &'static str,
    /// Which argument.
    key: &'static str,
    /// What it says then (JSON).
    value: &'static str,
    /// What was done, for people.
    what: &'static str,
    /// Words that the policy has to find.
    found: &'static str,
}

/// The policy has to refuse each of them.
const SPOILT: [Spoil; 9] = [
    Spoil {
        kind: "aws_rds_cluster",
        key: "storage_encrypted",
        value: "false",
        what: "PostgreSQL in the clear",
        found: "is not encrypted",
    },
    Spoil {
        kind: "aws_rds_cluster",
        key: "kms_key_id",
        value: r#""arn:aws:kms:ca-central-1:444444444444:key/a""#,
        what: "the key of another region",
        found: "is not under the region's key",
    },
    Spoil {
        kind: "aws_rds_cluster",
        key: "backup_retention_period",
        value: "1",
        what: "backups of a day",
        found: "too short",
    },
    Spoil {
        kind: "aws_rds_cluster_instance",
        key: "publicly_accessible",
        value: "true",
        what: "a public database",
        found: "public address",
    },
    Spoil {
        kind: "aws_ebs_volume",
        key: "availability_zone",
        value: r#""ca-central-1a""#,
        what: "a disk elsewhere",
        found: "is in ca-central-1a",
    },
    Spoil {
        kind: "aws_lb",
        key: "internal",
        value: "false",
        what: "a public balancer",
        found: "public balancer",
    },
    Spoil {
        kind: "aws_kms_key",
        key: "multi_region",
        value: "true",
        what: "a key that travels",
        found: "can be copied",
    },
    Spoil {
        kind: "aws_vpc_security_group_ingress_rule",
        key: "cidr_ipv4",
        value: r#""0.0.0.0/0""#,
        what: "an open door",
        found: "whole internet",
    },
    Spoil {
        kind: "aws_cloudwatch_log_group",
        key: "retention_in_days",
        value: "7",
        what: "logs of a week",
        found: "logs too short",
    },
];

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
                for spoil in &SPOILT {
                    // A plan without the resource is none that the policy was tried on.
                    let found = match spoilt(&plan, spoil)? {
                        Some(spoilt) => violations(&spoilt, region, &lawful),
                        None => vec![format!("it makes no {}", spoil.kind)],
                    };
                    let seen = found.iter().any(|one| one.contains(spoil.found));
                    let what = format!("{what} with {} is refused", spoil.what);
                    tally.say(&what, seen, &found.join("\n"));
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

/// The plan, spoilt in one place. None when it makes nothing of that kind.
fn spoilt(plan: &Value, spoil: &Spoil) -> Result<Option<Value>> {
    let mut spoilt = plan.clone();
    let changes = spoilt["resource_changes"].as_array_mut();
    let mut changes = changes.into_iter().flatten();
    let Some(change) = changes.find(|change| change["type"] == spoil.kind) else {
        return Ok(None);
    };
    change["change"]["after"][spoil.key] = serde_json::from_str(spoil.value).context(spoil.what)?;
    Ok(Some(spoilt))
}
