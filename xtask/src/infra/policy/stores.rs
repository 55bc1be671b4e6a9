//! What each kind of store has to have: one list of rules for each kind.
use super::Resource;
use serde_json::Value;

/// Backups are kept at least so long, in days.
const MIN_BACKUP_DAYS: u64 = 35;
/// Logs are kept at least so long, in days.
const MIN_LOG_DAYS: u64 = 365;
/// What is said of a store whose key is another's.
const FOREIGN_KEY: &str = "is not under the region's key";
const FOREIGN_DISK: &str = "has a disk that is not under the region's key";
const CLEAR: &str = "is not encrypted";
const ANY_REQUEST: &str = "gives its role to any request";

/// What keeps a bucket from the public.
const PUBLIC: [&str; 4] = [
    "block_public_acls",
    "block_public_policy",
    "ignore_public_acls",
    "restrict_public_buckets",
];

/// Whether it is kept, and what is said when it is not.
type Rule = (bool, &'static str);

impl Resource<'_> {
    /// What is wrong with it as a store of its kind.
    pub(super) fn of_its_kind(&self) -> Vec<String> {
        let rules = match self.kind {
            "aws_rds_cluster" => self.postgres(),
            "aws_rds_cluster_instance" => self.insights(),
            "aws_ssm_parameter" => self.parameter(),
            "aws_s3_bucket_server_side_encryption_configuration" => self.bucket_key(),
            "aws_s3_bucket_versioning" => vec![(
                self.after["versioning_configuration"][0]["status"] == "Enabled",
                "keeps no former version",
            )],
            "aws_s3_bucket_public_access_block" => {
                vec![(
                    PUBLIC.iter().all(|key| self.after[*key] == true),
                    "may be public",
                )]
            }
            "aws_msk_cluster" => self.kafka(),
            "aws_msk_configuration" => self.topics(),
            "aws_ebs_volume" => self.volume(),
            "aws_instance" => self.instance(),
            "aws_launch_template" => self.launch_template(),
            "aws_backup_vault" | "aws_prometheus_workspace" => {
                vec![(self.own_key("kms_key_arn"), FOREIGN_KEY)]
            }
            "aws_backup_plan" => self.backups(),
            "aws_cloudwatch_log_group" => self.logs(),
            "aws_sns_topic" => vec![(self.own_key("kms_master_key_id"), FOREIGN_KEY)],
            "aws_kms_key" => self.root_key(),
            _ => Vec::new(),
        };
        let broken = rules.into_iter().filter(|(kept, _)| !kept);
        broken.map(|(_, what)| what.to_owned()).collect()
    }

    fn postgres(&self) -> Vec<Rule> {
        let after = self.after;
        let alone = |key: &str| !after[key].is_string();
        vec![
            (after["storage_encrypted"] == true, CLEAR),
            (self.own_key("kms_key_id"), FOREIGN_KEY),
            (
                self.own_key("master_user_secret_kms_key_id"),
                "has its password under a key that is not the region's",
            ),
            (
                at_least(&after["backup_retention_period"], MIN_BACKUP_DAYS),
                "keeps its backups too short",
            ),
            (after["deletion_protection"] == true, "can be deleted"),
            (
                alone("global_cluster_identifier") && alone("replication_source_identifier"),
                "is a copy of another region's",
            ),
        ]
    }

    fn kafka(&self) -> Vec<Rule> {
        const KEY: &str = "encryption_at_rest_kms_key_arn";
        let rest = &self.after["encryption_info"][0];
        let unknown = &self.unknown["encryption_info"][0];
        let transit = &rest["encryption_in_transit"][0];
        vec![
            (self.key(&rest[KEY], &unknown[KEY]), FOREIGN_KEY),
            (
                transit["client_broker"] == "TLS" && transit["in_cluster"] == true,
                "speaks in the clear",
            ),
            (
                self.after["client_authentication"][0]["unauthenticated"] == false,
                "takes anybody",
            ),
        ]
    }

    /// What holds of every topic that does not say otherwise.
    fn topics(&self) -> Vec<Rule> {
        let properties = self.after["server_properties"].as_str().unwrap_or_default();
        let says = |line: &str| properties.lines().any(|it| it.trim() == line);
        let kept = properties
            .lines()
            .find_map(|line| line.trim().strip_prefix("log.retention.hours="));
        let ends = kept.is_some_and(|hours| hours.parse::<u32>().is_ok_and(|hours| hours > 0));
        vec![
            (
                says("auto.create.topics.enable=false"),
                "makes topics by itself",
            ),
            (
                says("default.replication.factor=3") && says("min.insync.replicas=2"),
                "acknowledges what fewer than two of three brokers have",
            ),
            (
                says("unclean.leader.election.enable=false"),
                "may go on without what was acknowledged",
            ),
            (
                says("allow.everyone.if.no.acl.found=false"),
                "lets everybody do what nobody was allowed",
            ),
            (ends, "keeps messages without end"),
        ]
    }

    fn volume(&self) -> Vec<Rule> {
        vec![
            (self.after["encrypted"] == true, CLEAR),
            (self.own_key("kms_key_id"), FOREIGN_KEY),
        ]
    }

    /// What an instance of PostgreSQL keeps of the statements that ran.
    fn insights(&self) -> Vec<Rule> {
        let off = self.after["performance_insights_enabled"] == false;
        let own = self.own_key("performance_insights_kms_key_id");
        vec![(off || own, FOREIGN_KEY)]
    }

    fn parameter(&self) -> Vec<Rule> {
        vec![
            (self.after["type"] == "SecureString", CLEAR),
            (self.own_key("key_id"), FOREIGN_KEY),
        ]
    }

    fn bucket_key(&self) -> Vec<Rule> {
        const BY_DEFAULT: &str = "apply_server_side_encryption_by_default";
        let rule = &self.after["rule"][0][BY_DEFAULT][0];
        let unknown = &self.unknown["rule"][0][BY_DEFAULT][0];
        let own = self.key(&rule["kms_master_key_id"], &unknown["kms_master_key_id"]);
        vec![(rule["sse_algorithm"] == "aws:kms" && own, FOREIGN_KEY)]
    }

    fn instance(&self) -> Vec<Rule> {
        let root = self.disks("root_block_device", |disk| disk);
        let more = self.disks("ebs_block_device", |disk| disk);
        vec![
            (root == Some(true) && more != Some(false), FOREIGN_DISK),
            (self.asks_for_a_token(), ANY_REQUEST),
        ]
    }

    fn launch_template(&self) -> Vec<Rule> {
        let disks = self.disks("block_device_mappings", |disk| &disk["ebs"][0]);
        vec![
            (disks == Some(true), FOREIGN_DISK),
            (self.asks_for_a_token(), ANY_REQUEST),
        ]
    }

    /// Whether every disk of a list is encrypted under the region's key; none when there is none.
    fn disks(&self, list: &str, disk: impl Fn(&Value) -> &Value) -> Option<bool> {
        let all = self.after[list].as_array().filter(|all| !all.is_empty())?;
        let of = |(at, one)| self.is_encrypted(disk(one), disk(&self.unknown[list][at]));
        Some(all.iter().enumerate().all(of))
    }

    fn backups(&self) -> Vec<Rule> {
        let rules = self.after["rule"].as_array();
        let kept = |rule: &Value| at_least(&rule["lifecycle"][0]["delete_after"], MIN_BACKUP_DAYS);
        let all = rules.is_some_and(|rules| !rules.is_empty() && rules.iter().all(kept));
        vec![(all, "keeps backups too short")]
    }

    fn logs(&self) -> Vec<Rule> {
        vec![
            (
                at_least(&self.after["retention_in_days"], MIN_LOG_DAYS),
                "keeps logs too short",
            ),
            (self.own_key("kms_key_id"), FOREIGN_KEY),
        ]
    }

    fn root_key(&self) -> Vec<Rule> {
        let after = self.after;
        vec![
            (
                after["multi_region"] == false,
                "can be copied to another region",
            ),
            (after["enable_key_rotation"] == true, "is never renewed"),
        ]
    }

    /// An encrypted disk under the region's key; a launch template writes its flags as texts.
    fn is_encrypted(&self, disk: &Value, unknown: &Value) -> bool {
        let flag = &disk["encrypted"];
        (*flag == true || *flag == "true") && self.key(&disk["kms_key_id"], &unknown["kms_key_id"])
    }

    fn asks_for_a_token(&self) -> bool {
        self.after["metadata_options"][0]["http_tokens"] == "required"
    }

    fn own_key(&self, name: &str) -> bool {
        self.key(&self.after[name], &self.unknown[name])
    }

    /// A key of this region: named, or one that the same plan makes.
    fn key(&self, named: &Value, unknown: &Value) -> bool {
        match named.as_str() {
            Some(arn) => arn.starts_with(&format!("arn:aws:kms:{}:", self.region)),
            None => *unknown == true,
        }
    }
}

fn at_least(value: &Value, days: u64) -> bool {
    value.as_u64().is_some_and(|value| value >= days)
}
