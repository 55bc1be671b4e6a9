mock_provider "aws" {
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:222222222222:key/00000000-0000-0000-0000-000000000000" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::222222222222:role/medmesh" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:222222222222:log-group:medmesh" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:222222222222:medmesh" }
  }
  mock_resource "aws_backup_vault" {
    defaults = { arn = "arn:aws:backup:eu-central-1:222222222222:backup-vault:medmesh" }
  }
}

variables {
  region        = "eu-central-1"
  account_id    = "222222222222"
  cidr          = "10.20.0.0/16"
  backup_region = "eu-west-1"
  budget_usd    = 5000
  alarm_email   = "operator@example.org"
  tags          = { system = "medmesh", jurisdiction = "eu" }
}

run "everything_at_rest_has_the_key_of_the_place" {
  command = plan
  override_resource {
    target          = aws_kms_key.data
    override_during = plan
    values          = { arn = "arn:aws:kms:eu-central-1:222222222222:key/00000000-0000-0000-0000-000000000000" }
  }
  assert {
    condition     = length(distinct([output.key_arn, aws_backup_vault.this.kms_key_arn, aws_sns_topic.alarms.kms_master_key_id, aws_cloudwatch_log_group.this["node"].kms_key_id, aws_kms_key.data[0].arn, aws_prometheus_workspace.this.kms_key_arn])) == 1
    error_message = "backups, logs, metrics and alarms have one key"
  }
  assert {
    condition     = !aws_kms_key.data[0].multi_region
    error_message = "the key stays"
  }
}

run "a_key_of_the_operators_own_is_taken" {
  command = plan
  variables {
    key_arn = "arn:aws:kms:eu-central-1:222222222222:key/own"
  }
  assert {
    condition     = output.key_arn == "arn:aws:kms:eu-central-1:222222222222:key/own" && length(aws_kms_key.data) == 0
    error_message = "no other one is made"
  }
}

run "the_rules_of_the_mesh_tell_the_people_of_the_place" {
  command = plan
  override_resource {
    target          = aws_sns_topic.alarms
    override_during = plan
    values          = { arn = "arn:aws:sns:eu-central-1:222222222222:medmesh" }
  }
  assert {
    condition     = length(yamldecode(aws_prometheus_rule_group_namespace.rules.data).groups) > 1
    error_message = "the rules of infra/observability"
  }
  assert {
    condition     = yamldecode(yamldecode(aws_prometheus_alert_manager_definition.this.definition).alertmanager_config).receivers[0].sns_configs[0].topic_arn == "arn:aws:sns:eu-central-1:222222222222:medmesh"
    error_message = "alerts go where alarms go"
  }
}

run "no_address_is_public" {
  command = plan
  assert {
    condition     = alltrue([for subnet in aws_subnet.private : !subnet.map_public_ip_on_launch])
    error_message = "no address is public"
  }
}

run "backups_are_kept_and_copied_where_they_are_to_go" {
  command = plan
  assert {
    condition     = one(one(aws_backup_plan.this.rule).copy_action).destination_vault_arn == "arn:aws:backup:eu-west-1:222222222222:backup-vault:medmesh" && aws_backup_vault_lock_configuration.this.min_retention_days == 35
    error_message = "a second copy, and nobody empties the first"
  }
}

run "refuses_zones_three" {
  command = plan
  variables {
    zones = ["a", "a", "b"]
  }
  expect_failures = [var.zones]
}

run "refuses_network_form" {
  command = plan
  variables {
    cidr = "10.20.0.0/24"
  }
  expect_failures = [var.cidr]
}

run "refuses_budget" {
  command = plan
  variables {
    budget_usd = -1
  }
  expect_failures = [var.budget_usd]
}

run "refuses_alarm_address" {
  command = plan
  variables {
    alarm_email = "the operator"
  }
  expect_failures = [var.alarm_email]
}
