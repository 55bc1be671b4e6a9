//! What a plan of a region may make: every store in its region, under its key, encrypted, kept long enough, and nothing
//! with a public address or a way elsewhere. Read from the plan's JSON, so that it holds whatever module made a resource.
mod stores;

use serde_json::Value;
use std::collections::BTreeSet;

/// What would be a way to or from the internet.
const NEVER: [&str; 6] = [
    "aws_internet_gateway",
    "aws_egress_only_internet_gateway",
    "aws_nat_gateway",
    "aws_eip",
    "aws_kms_replica_key",
    "aws_rds_global_cluster",
];
/// Types that hold data: each has rules (`stores`).
const STORES: [&str; 16] = [
    "aws_rds_cluster",
    "aws_rds_cluster_instance",
    "aws_msk_cluster",
    "aws_ebs_volume",
    "aws_instance",
    "aws_launch_template",
    "aws_backup_vault",
    "aws_backup_plan",
    "aws_cloudwatch_log_group",
    "aws_sns_topic",
    "aws_prometheus_workspace",
    "aws_s3_bucket",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
    "aws_ssm_parameter",
];
/// Types that hold nothing of the mesh. One that is in neither list is refused until somebody has decided what it is: the
/// cloud has more stores than anybody would think of.
const NO_STORES: [&str; 50] = [
    "aws_acmpca_certificate_authority",
    "aws_autoscaling_group",
    "aws_backup_selection",
    "aws_backup_vault_lock_configuration",
    "aws_budgets_budget",
    "aws_cloudwatch_dashboard",
    "aws_cloudwatch_metric_alarm",
    "aws_customer_gateway",
    "aws_db_subnet_group",
    "aws_default_security_group",
    "aws_flow_log",
    "aws_iam_instance_profile",
    "aws_iam_role",
    "aws_iam_role_policy",
    "aws_iam_role_policy_attachment",
    "aws_kms_alias",
    "aws_kms_key",
    "aws_lb",
    "aws_lb_listener",
    "aws_lb_target_group",
    "aws_msk_configuration",
    "aws_network_interface",
    "aws_organizations_organizational_unit",
    "aws_organizations_policy",
    "aws_organizations_policy_attachment",
    "aws_prometheus_alert_manager_definition",
    "aws_prometheus_rule_group_namespace",
    "aws_rds_cluster_parameter_group",
    "aws_route",
    "aws_route53_record",
    "aws_route53_zone",
    "aws_route_table",
    "aws_route_table_association",
    "aws_s3_bucket_policy",
    "aws_security_group",
    "aws_sns_topic_policy",
    "aws_sns_topic_subscription",
    "aws_subnet",
    "aws_vpc",
    "aws_vpc_endpoint",
    "aws_vpc_endpoint_service",
    "aws_vpc_peering_connection",
    "aws_vpc_peering_connection_accepter",
    "aws_vpc_security_group_egress_rule",
    "aws_vpc_security_group_ingress_rule",
    "aws_vpn_connection",
    "aws_vpn_connection_route",
    "aws_vpn_gateway",
    "aws_vpn_gateway_route_propagation",
    "terraform_data",
];

/// What is wrong with the plan of a region, a line each. `lawful`: every cloud region where its law applies.
pub fn violations(plan: &Value, region: &str, lawful: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let configured = provider_region(plan);
    if configured.as_deref() != Some(region) {
        found.push(format!(
            "the provider's region is {configured:?}, not {region}"
        ));
    }
    let global = plan["variables"]["global"]["value"]["region"].as_str();
    let regions = &plan["variables"]["regions"]["value"];
    let networks = lawful.iter().map(|name| &regions[name]["cidr"]);
    let networks: Vec<&str> = networks.filter_map(Value::as_str).collect();
    let changes = plan["resource_changes"].as_array().into_iter().flatten();
    let managed: Vec<&Value> = changes
        .filter(|change| change["mode"] == "managed")
        .collect();
    if managed.is_empty() {
        found.push("the plan makes nothing".to_owned());
    }
    for change in &managed {
        let resource = Resource {
            kind: change["type"].as_str().unwrap_or_default(),
            after: &change["change"]["after"],
            unknown: &change["change"]["after_unknown"],
            region,
            global: global.unwrap_or_default(),
            lawful,
            networks: &networks,
        };
        let address = change["address"].as_str().unwrap_or_default();
        found.extend(
            resource
                .problems()
                .into_iter()
                .map(|problem| format!("{address}: {problem}")),
        );
    }
    found.extend(bare_buckets(&managed));
    found
}

/// The region of the provider, whether it is written out or a variable's.
fn provider_region(plan: &Value) -> Option<String> {
    let region = &plan["configuration"]["provider_config"]["aws"]["expressions"]["region"];
    if let Some(text) = region["constant_value"].as_str() {
        return Some(text.to_owned());
    }
    let name = region["references"][0].as_str()?.strip_prefix("var.")?;
    let (name, field) = name.split_once('.').unwrap_or((name, ""));
    let value = &plan["variables"][name]["value"];
    let value = if field.is_empty() {
        value
    } else {
        &value[field]
    };
    value.as_str().map(str::to_owned)
}

/// A resource as it will be.
struct Resource<'a> {
    kind: &'a str,
    after: &'a Value,
    /// What of it the cloud will say.
    unknown: &'a Value,
    region: &'a str,
    /// Where the global node stands.
    global: &'a str,
    lawful: &'a BTreeSet<String>,
    /// Of the regions where the law applies.
    networks: &'a [&'a str],
}

impl Resource<'_> {
    fn problems(&self) -> Vec<String> {
        let mut found = self.of_its_kind();
        if NEVER.contains(&self.kind) {
            found.push("must not exist: it leads out of the region".to_owned());
        } else if !STORES.contains(&self.kind) && !NO_STORES.contains(&self.kind) {
            found.push("is of a type for which this policy has no rule".to_owned());
        }
        found.extend(self.elsewhere());
        found.extend(self.public());
        found.extend(self.leads_elsewhere());
        if self.after.get("tags").is_some()
            && STORES.contains(&self.kind)
            && !self.after["tags"]["jurisdiction"].is_string()
        {
            found.push("has no tag jurisdiction".to_owned());
        }
        found
    }

    /// Anything that names a place where another law applies; of what holds data, any place but its own and copies of
    /// backups within the law.
    fn elsewhere(&self) -> Vec<String> {
        let mut found = Vec::new();
        for text in texts(self.after) {
            let place = text
                .strip_prefix("arn:aws:")
                .and_then(|rest| rest.split(':').nth(1))
                .filter(|place| !place.is_empty());
            if let Some(place) = place.filter(|place| !self.lawful.contains(*place)) {
                found.push(format!(
                    "names {text}, in {place}, where another law applies"
                ));
            }
        }
        for key in ["availability_zone", "region"] {
            if let Some(place) = self.after[key]
                .as_str()
                .filter(|place| !place.starts_with(self.region))
            {
                found.push(format!("is in {place}"));
            }
        }
        found
    }

    /// Ways that lead out of the region's network: to its pair and to the global node, and to nobody else.
    fn leads_elsewhere(&self) -> Vec<String> {
        let text = |key: &str| self.after[key].as_str().unwrap_or_default();
        let wrong = match self.kind {
            "aws_vpc_endpoint" => {
                let name = text("service_name");
                let own = format!("com.amazonaws.{}.", self.region);
                let uplink = format!("com.amazonaws.vpce.{}.vpce-svc-", self.global);
                !name.starts_with(&own) && !name.starts_with(&uplink)
            }
            "aws_vpc_endpoint_service" => {
                let principals = texts(&self.after["allowed_principals"]);
                self.after["acceptance_required"] != true
                    || principals.is_empty()
                    || principals.iter().any(|one| one.contains('*'))
            }
            "aws_vpc_peering_connection" => !self.lawful.contains(text("peer_region")),
            "aws_route" => !self.networks.contains(&text("destination_cidr_block")),
            _ => false,
        };
        let what = "leads to a network that is neither its pair's nor the global node's";
        wrong.then(|| what.to_owned()).into_iter().collect()
    }

    fn public(&self) -> Vec<String> {
        let mut found = Vec::new();
        for key in [
            "publicly_accessible",
            "map_public_ip_on_launch",
            "associate_public_ip_address",
        ] {
            if self.after[key] == true {
                found.push(format!("{key}: has a public address"));
            }
        }
        if self.kind == "aws_launch_template"
            && !is_false(&self.after["network_interfaces"][0]["associate_public_ip_address"])
        {
            found.push("may get a public address".to_owned());
        }
        if self.kind == "aws_lb" && self.after["internal"] != true {
            found.push("is a public balancer".to_owned());
        }
        if self.kind == "aws_msk_cluster" {
            let access = &self.after["broker_node_group_info"][0]["connectivity_info"][0]["public_access"]
                [0]["type"];
            if access != "DISABLED" {
                found.push("may have public brokers".to_owned());
            }
        }
        if self.kind.contains("ingress")
            || self.kind == "aws_security_group"
            || self.kind == "aws_security_group_rule"
        {
            let open = texts(self.after)
                .into_iter()
                .any(|text| text == "0.0.0.0/0" || text == "::/0");
            if open {
                found.push("lets the whole internet in".to_owned());
            }
        }
        found
    }
}

/// Buckets without the three things that a bucket needs, each a resource of its own.
fn bare_buckets(managed: &[&Value]) -> Vec<String> {
    let of = |kind: &str| {
        managed
            .iter()
            .filter(|change| change["type"] == kind)
            .count()
    };
    let buckets = of("aws_s3_bucket");
    let parts = [
        "aws_s3_bucket_public_access_block",
        "aws_s3_bucket_server_side_encryption_configuration",
        "aws_s3_bucket_versioning",
    ];
    parts
        .into_iter()
        .filter(|part| of(part) < buckets)
        .map(|part| format!("{buckets} buckets, but {} of {part}", of(part)))
        .collect()
}

fn is_false(value: &Value) -> bool {
    *value == false || *value == "false"
}

/// Every text in a value, at any depth.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(kind: &str, after: Value, unknown: Value) -> Value {
        json!({
            "variables": {
                "region": {"value": "eu-central-1"},
                "global": {"value": {"region": "eu-west-1"}},
                "regions": {"value": {"eu-west-1": {"cidr": "10.21.0.0/16"}, "us-east-1": {"cidr": "10.30.0.0/16"}}},
            },
            "configuration": {"provider_config": {"aws": {"expressions": {"region": {"references": ["var.region"]}}}}},
            "resource_changes": [
                {"address": "a", "mode": "managed", "type": kind, "change": {"after": after, "after_unknown": unknown}},
            ],
        })
    }

    fn found(kind: &str, after: Value, unknown: Value) -> Vec<String> {
        let lawful = ["eu-central-1", "eu-west-1"].map(str::to_owned).into();
        violations(&plan(kind, after, unknown), "eu-central-1", &lawful)
    }

    fn disk(zone: &str, key: Value) -> Value {
        json!({"availability_zone": zone, "encrypted": true, "kms_key_id": key, "tags": {"jurisdiction": "eu"}})
    }

    #[test]
    fn a_store_elsewhere_or_in_the_clear_or_under_a_foreign_key_is_refused() {
        let own = json!("arn:aws:kms:eu-central-1:222222222222:key/a");
        let foreign = json!("arn:aws:kms:us-east-1:222222222222:key/a");
        let volume = |after, unknown| found("aws_ebs_volume", after, unknown);
        assert!(volume(disk("eu-central-1a", own.clone()), json!({})).is_empty());
        let made = disk("eu-central-1a", Value::Null);
        assert!(volume(made.clone(), json!({"kms_key_id": true})).is_empty());
        // Without a key of its own the cloud takes one that is the account's.
        assert_eq!(volume(made, json!({})).len(), 1);
        assert_eq!(volume(disk("us-east-1a", own.clone()), json!({})).len(), 1);
        // It is under another key, and names another law.
        assert_eq!(volume(disk("eu-central-1a", foreign), json!({})).len(), 2);
        let mut clear = disk("eu-central-1a", own);
        clear["encrypted"] = json!(false);
        assert_eq!(volume(clear, json!({})).len(), 1);
    }

    #[test]
    fn what_leads_out_of_the_region_is_refused_and_so_is_a_store_without_a_rule() {
        for (kind, after) in [
            ("aws_internet_gateway", json!({})),
            ("aws_dynamodb_table", json!({})),
            // Whatever the cloud calls its stores, today and tomorrow.
            ("aws_neptune_cluster", json!({})),
            ("aws_secretsmanager_secret", json!({})),
            ("aws_db_snapshot_copy", json!({})),
            ("aws_store_of_next_year", json!({})),
            ("aws_lb", json!({"internal": false})),
            ("aws_subnet", json!({"map_public_ip_on_launch": true})),
            (
                "aws_vpc_security_group_ingress_rule",
                json!({"cidr_ipv4": "0.0.0.0/0"}),
            ),
            ("aws_s3_bucket_replication_configuration", json!({})),
        ] {
            assert_eq!(found(kind, after, json!({})).len(), 1, "{kind}");
        }
        assert!(found("aws_lb", json!({"internal": true}), json!({})).is_empty());
    }

    #[test]
    fn every_disk_every_key_and_every_part_of_a_bucket_is_looked_at() {
        let foreign = "arn:aws:kms:eu-west-1:222222222222:key/a";
        let good = json!([{"encrypted": true}]);
        let known = json!({"root_block_device": [{"kms_key_id": true}], "ebs_block_device": true});
        let machine = |second: Value, unknown: &Value| {
            let after = json!({
                "root_block_device": good, "ebs_block_device": second, "tags": {"jurisdiction": "eu"},
                "metadata_options": [{"http_tokens": "required"}],
            });
            found("aws_instance", after, unknown.clone())
        };
        assert!(machine(Value::Null, &known).is_empty());
        let second = json!({"root_block_device": [{"kms_key_id": true}], "ebs_block_device": [{}]});
        assert_eq!(machine(json!([{"encrypted": false}]), &second).len(), 1);
        let disk =
            |encrypted: &str| json!({"ebs": [{"encrypted": encrypted, "kms_key_id": Value::Null}]});
        let after = json!({
            "block_device_mappings": [disk("true"), disk("false")], "tags": {"jurisdiction": "eu"},
            "metadata_options": [{"http_tokens": "required"}],
            "network_interfaces": [{"associate_public_ip_address": "false"}],
        });
        let made = json!({"ebs": [{"kms_key_id": true}]});
        let template = found(
            "aws_launch_template",
            after,
            json!({"block_device_mappings": [made, made]}),
        );
        assert_eq!(template.len(), 1, "{template:?}");
        for (kind, after) in [
            (
                "aws_rds_cluster_instance",
                json!({"performance_insights_enabled": true, "performance_insights_kms_key_id": foreign}),
            ),
            (
                "aws_rds_cluster_instance",
                json!({"performance_insights_enabled": true, "performance_insights_kms_key_id": Value::Null}),
            ),
            (
                "aws_ssm_parameter",
                json!({"type": "String", "key_id": Value::Null}),
            ),
            (
                "aws_prometheus_workspace",
                json!({"kms_key_arn": Value::Null, "tags": {"jurisdiction": "eu"}}),
            ),
            (
                "aws_s3_bucket_server_side_encryption_configuration",
                json!({"rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "AES256"}]}]}),
            ),
            (
                "aws_s3_bucket_versioning",
                json!({"versioning_configuration": [{"status": "Suspended"}]}),
            ),
            (
                "aws_s3_bucket_public_access_block",
                json!({"block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": false}),
            ),
        ] {
            assert!(!found(kind, after, json!({})).is_empty(), "{kind}");
        }
    }

    #[test]
    fn a_plan_for_another_region_than_its_state_is_refused() {
        let mut plan = plan("aws_lb", json!({"internal": true}), json!({}));
        plan["variables"]["region"]["value"] = json!("us-east-1");
        let lawful = ["eu-central-1"].map(str::to_owned).into();
        assert_eq!(violations(&plan, "eu-central-1", &lawful).len(), 1);
    }

    #[test]
    fn a_way_leads_to_the_pair_and_to_the_global_node_and_nowhere_else() {
        let link = |name: &str| found("aws_vpc_endpoint", json!({"service_name": name}), json!({}));
        assert!(link("com.amazonaws.eu-central-1.kms").is_empty());
        assert!(link("com.amazonaws.vpce.eu-west-1.vpce-svc-0").is_empty());
        assert_eq!(link("com.amazonaws.vpce.us-east-1.vpce-svc-0").len(), 1);
        assert_eq!(link("com.amazonaws.us-east-1.s3").len(), 1);
        let peer = |region: &str| {
            let after = json!({"peer_region": region});
            found("aws_vpc_peering_connection", after, json!({}))
        };
        assert!(peer("eu-west-1").is_empty());
        assert_eq!(peer("us-east-1").len(), 1);
        let service = |asks: bool, who: Value| {
            let after = json!({"acceptance_required": asks, "allowed_principals": who});
            found("aws_vpc_endpoint_service", after, json!({}))
        };
        let account = json!(["arn:aws:iam::222222222222:root"]);
        assert!(service(true, account.clone()).is_empty());
        for (asks, who) in [(false, account), (true, json!(["*"])), (true, json!([]))] {
            assert_eq!(service(asks, who).len(), 1);
        }
        let route = |to: &str| {
            found(
                "aws_route",
                json!({"destination_cidr_block": to}),
                json!({}),
            )
        };
        assert!(route("10.21.0.0/16").is_empty());
        // Half of the internet, another law's region, and one of the other protocol.
        for to in ["0.0.0.0/0", "0.0.0.0/1", "10.30.0.0/16", ""] {
            assert_eq!(route(to).len(), 1, "{to}");
        }
    }

    #[test]
    fn a_region_that_is_a_field_of_a_variable_is_read() {
        let mut plan = plan("aws_lb", json!({"internal": true}), json!({}));
        let region = &mut plan["configuration"]["provider_config"]["aws"]["expressions"]["region"];
        region["references"] = json!(["var.global.region", "var.global"]);
        assert_eq!(provider_region(&plan).as_deref(), Some("eu-west-1"));
    }
}
