//! The production plans of every layer that makes something in a region, without an account and held against the policy; and
//! that the policy sees what it is there for, by plans that were spoilt in one place each.
use super::{Tally, policy::violations, terraform::Terraform};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The regions that are planned: one of each jurisdiction.
const PLANNED: [(&str, &str); 3] = [
    ("us-east-1", "us"),
    ("eu-central-1", "eu"),
    ("ap-southeast-2", "apac"),
];
/// Another layer, where it is planned, and values of its own for what other layers and people would say.
struct Layer {
    name: &'static str,
    region: &'static str,
    values: &'static [&'static str],
}

/// Each of them once, under one law.
const LAYERS: [Layer; 6] = [
    Layer {
        name: "state",
        region: "eu-central-1",
        values: &["-var=region=eu-central-1"],
    },
    Layer {
        name: "global",
        region: "eu-west-1",
        values: &[
            "-var=organisation_account_id=555555555555",
            "-var=global_account_id=444444444444",
            "-var=parent_id=r-abcd",
        ],
    },
    Layer {
        name: "global-node",
        region: "eu-west-1",
        values: &["-var-file=../../environments/prod/global-node.tfvars.json"],
    },
    Layer {
        name: "jurisdiction",
        region: "eu-central-1",
        values: &["-var=jurisdiction=eu", "-var=region=eu-central-1"],
    },
    Layer {
        name: "pair",
        region: "eu-central-1",
        values: &[
            "-var=region=eu-central-1",
            r#"-var=networks={"eu-central-1":{"vpc_id":"vpc-0","route_table_id":"rtb-0"},"eu-west-1":{"vpc_id":"vpc-1","route_table_id":"rtb-1"}}"#,
        ],
    },
    Layer {
        name: "edge-fleet",
        region: "eu-central-1",
        values: &[
            "-var=region=eu-central-1",
            "-var=ingest_url=https://ingest.eu-central-1.eu.mesh.example.org:7443",
            "-var=vpn_gateway_id=vgw-0123456789abcdef0",
            "-var=key_arn=arn:aws:kms:eu-central-1:222222222222:key/a",
            r#"-var=lines={"charite-berlin":{"gateway":"203.0.113.1","cidr":"10.202.1.0/24","host":"edge.example.org"}}"#,
        ],
    },
];
/// The law of the layers' regions.
const LAW: &str = "eu";
/// What a plan without an account says when it is applied all the same.
const PLANS_ALONE: &str = "without_account is for plans alone";
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

/// The policy has to refuse each of them in the plan of a region.
const SPOILT: [Spoil; 16] = [
    Spoil {
        kind: "aws_rds_cluster",
        key: "master_user_secret_kms_key_id",
        value: r#""arn:aws:kms:ca-central-1:444444444444:key/a""#,
        what: "the database's password under another's key",
        found: "password",
    },
    Spoil {
        kind: "aws_rds_cluster_instance",
        key: "performance_insights_kms_key_id",
        value: r#""arn:aws:kms:ca-central-1:444444444444:key/a""#,
        what: "its statements under another's key",
        found: "is not under the region's key",
    },
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
    Spoil {
        kind: "aws_rds_cluster",
        key: "global_cluster_identifier",
        value: r#""medmesh""#,
        what: "a replica elsewhere",
        found: "is a copy of another region's",
    },
    Spoil {
        kind: "aws_backup_plan",
        key: "rule",
        value: r#"[{"lifecycle":[{"delete_after":35}],"copy_action":[{"destination_vault_arn":"arn:aws:backup:ca-central-1:444444444444:backup-vault:medmesh"}]}]"#,
        what: "a backup elsewhere",
        found: "where another law applies",
    },
    Spoil {
        kind: "aws_msk_configuration",
        key: "server_properties",
        value: r#""auto.create.topics.enable=true\nlog.retention.hours=168""#,
        what: "a Kafka that makes topics by itself",
        found: "makes topics by itself",
    },
    Spoil {
        kind: "aws_msk_configuration",
        key: "server_properties",
        value: r#""log.retention.hours=-1""#,
        what: "a Kafka that forgets nothing",
        found: "keeps messages without end",
    },
    Spoil {
        kind: "aws_vpc_endpoint",
        key: "service_name",
        value: r#""com.amazonaws.vpce.ca-central-1.vpce-svc-0""#,
        what: "a private link elsewhere",
        found: "leads to a network",
    },
];

/// And each of these in the plan of the layer that makes such a thing.
const SPOILT_LAYERS: [(&str, Spoil); 8] = [
    (
        "state",
        Spoil {
            kind: "aws_s3_bucket_server_side_encryption_configuration",
            key: "rule",
            value: r#"[{"apply_server_side_encryption_by_default":[{"sse_algorithm":"AES256"}]}]"#,
            what: "states under the account's key",
            found: "is not under the region's key",
        },
    ),
    (
        "state",
        Spoil {
            kind: "aws_s3_bucket_versioning",
            key: "versioning_configuration",
            value: r#"[{"status":"Suspended"}]"#,
            what: "states without former versions",
            found: "keeps no former version",
        },
    ),
    (
        "jurisdiction",
        Spoil {
            kind: "aws_s3_bucket_public_access_block",
            key: "block_public_policy",
            value: "false",
            what: "a bucket that may be public",
            found: "may be public",
        },
    ),
    (
        "edge-fleet",
        Spoil {
            kind: "aws_ssm_parameter",
            key: "type",
            value: r#""String""#,
            what: "a configuration in the clear",
            found: "is not encrypted",
        },
    ),
    (
        "edge-fleet",
        Spoil {
            kind: "aws_ssm_parameter",
            key: "key_id",
            value: r#""arn:aws:kms:us-east-1:111111111111:key/a""#,
            what: "a configuration under another law's key",
            found: "where another law applies",
        },
    ),
    (
        "pair",
        Spoil {
            kind: "aws_vpc_peering_connection",
            key: "peer_region",
            value: r#""us-east-1""#,
            what: "a way to another law's region",
            found: "leads to a network",
        },
    ),
    (
        "pair",
        Spoil {
            kind: "aws_route",
            key: "destination_cidr_block",
            value: r#""0.0.0.0/0""#,
            what: "a way to everywhere",
            found: "leads to a network",
        },
    ),
    (
        "global-node",
        Spoil {
            kind: "aws_vpc_endpoint_service",
            key: "allowed_principals",
            value: r#"["*"]"#,
            what: "a service for everybody",
            found: "leads to a network",
        },
    ),
];

/// Whether a root is a layer that is planned.
pub fn has(root: &str) -> bool {
    let layer = root.strip_prefix("stacks/").unwrap_or_default();
    layer == "region" || LAYERS.iter().any(|one| one.name == layer)
}

/// Plans each region and each layer, and checks what it would make, and that none of these plans can be applied.
pub fn check(terraform: &Terraform, copy: &Path, tally: &mut Tally) -> Result<()> {
    let stack = ready(terraform, copy, "region")?;
    for (region, jurisdiction) in PLANNED {
        let own = format!("-var-file=../../environments/prod/{region}.tfvars.json");
        let plan = plan(terraform, &stack, &[&own]);
        let spoilt: Vec<_> = SPOILT.iter().collect();
        hold(
            &format!("plan of {region}"),
            plan,
            (region, jurisdiction),
            &spoilt,
            tally,
        )?;
    }
    makes_nothing(terraform, &stack, "region", tally)?;
    for layer in &LAYERS {
        let stack = ready(terraform, copy, layer.name)?;
        let of_layer = SPOILT_LAYERS.iter().filter(|(name, _)| *name == layer.name);
        let spoilt: Vec<_> = of_layer.map(|(_, spoil)| spoil).collect();
        let plan = plan(terraform, &stack, layer.values);
        hold(
            &format!("plan of the layer {}", layer.name),
            plan,
            (layer.region, LAW),
            &spoilt,
            tally,
        )?;
        makes_nothing(terraform, &stack, layer.name, tally)?;
    }
    Ok(())
}

/// A plan without an account does not look whose account it is: applying it is refused by name, and makes nothing.
fn makes_nothing(
    terraform: &Terraform,
    stack: &Path,
    layer: &str,
    tally: &mut Tally,
) -> Result<()> {
    let apply = ["apply", "-input=false", "-no-color", "-lock=false", "plan"];
    let mut command = terraform.command(stack, &apply);
    // Were it not refused, the provider would ask the cloud, with a key that opens nothing: once.
    let said = command.env("AWS_MAX_ATTEMPTS", "1").output();
    let said = said.context("start terraform")?;
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    let made = made(stack)?;
    let refused = !said.status.success() && text.contains(PLANS_ALONE) && made == 0;
    let what = format!("the plan of the layer {layer} without an account cannot be applied");
    tally.say(&what, refused, &format!("{made} resources made\n{text}"));
    Ok(())
}

/// How many resources a stack's own state has.
fn made(stack: &Path) -> Result<usize> {
    let file = stack.join("terraform.tfstate");
    if !file.exists() {
        return Ok(0);
    }
    let state: Value = serde_json::from_slice(&fs::read(&file)?).context("the state as JSON")?;
    let resources = state["resources"].as_array();
    Ok(resources.map_or(0, Vec::len))
}

/// A stack whose state is nowhere.
fn ready(terraform: &Terraform, copy: &Path, layer: &str) -> Result<PathBuf> {
    let stack = copy.join("stacks").join(layer);
    fs::write(stack.join("backend_override.tf"), NOWHERE)?;
    let ready = terraform.run(&stack, &["init", "-input=false", "-no-color"])?;
    ensure!(ready.ok, "{}", ready.text);
    Ok(stack)
}

/// Holds a plan against the policy, and every spoilt one.
fn hold(
    what: &str,
    plan: Result<Value>,
    (region, jurisdiction): (&str, &str),
    spoilt: &[&Spoil],
    tally: &mut Tally,
) -> Result<()> {
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            tally.say(what, false, &format!("{error:#}"));
            return Ok(());
        }
    };
    let lawful = lawful(&plan, jurisdiction)?;
    let found = violations(&plan, region, &lawful);
    tally.say(what, found.is_empty(), &found.join("\n"));
    for spoil in spoilt {
        // A plan without the resource is none that the policy was tried on.
        let found = match spoil_one(&plan, spoil)? {
            Some(spoilt) => violations(&spoilt, region, &lawful),
            None => vec![format!("it makes no {}", spoil.kind)],
        };
        let seen = found.iter().any(|one| one.contains(spoil.found));
        let what = format!("{what} with {} is refused", spoil.what);
        tally.say(&what, seen, &found.join("\n"));
    }
    Ok(())
}

fn plan(terraform: &Terraform, stack: &Path, values: &[&str]) -> Result<Value> {
    let mut arguments = vec![
        "plan",
        "-input=false",
        "-no-color",
        "-lock=false",
        "-var-file=../../regions.tfvars.json",
        "-var=without_account=true",
        "-out=plan",
    ];
    arguments.extend(values);
    let said = terraform.run(stack, &arguments)?;
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
fn spoil_one(plan: &Value, spoil: &Spoil) -> Result<Option<Value>> {
    let mut spoilt = plan.clone();
    let changes = spoilt["resource_changes"].as_array_mut();
    let mut changes = changes.into_iter().flatten();
    let Some(change) = changes.find(|change| change["type"] == spoil.kind) else {
        return Ok(None);
    };
    change["change"]["after"][spoil.key] = serde_json::from_str(spoil.value).context(spoil.what)?;
    Ok(Some(spoilt))
}
