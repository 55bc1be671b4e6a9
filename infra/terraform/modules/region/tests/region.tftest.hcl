# What a region is made of. The cloud is mocked: values that it would give are made up, the provider's own checks are real.
mock_provider "aws" {
  mock_resource "aws_rds_cluster" {
    defaults = { arn = "arn:aws:rds:eu-central-1:222222222222:cluster:medmesh" }
  }
  mock_resource "aws_msk_cluster" {
    defaults = { arn = "arn:aws:kafka:eu-central-1:222222222222:cluster/medmesh/1" }
  }
  mock_resource "aws_msk_configuration" {
    defaults = { arn = "arn:aws:kafka:eu-central-1:222222222222:configuration/medmesh/1", latest_revision = 1 }
  }
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
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:222222222222:loadbalancer/net/medmesh/1" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:222222222222:targetgroup/medmesh/1" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_backup_vault" {
    defaults = { arn = "arn:aws:backup:eu-central-1:222222222222:backup-vault:medmesh" }
  }
  mock_resource "aws_ebs_volume" {
    defaults = { arn = "arn:aws:ec2:eu-central-1:222222222222:volume/vol-1", id = "vol-1" }
  }
}

variables {
  region         = "eu-central-1"
  jurisdiction   = "eu"
  lawful         = ["eu-central-1", "eu-west-1"]
  account_id     = "222222222222"
  pair           = "eu-west-1"
  backup_region  = "eu-west-1"
  cidr           = "10.20.0.0/16"
  facility_cidrs = { berlin = "10.200.1.0/24" }
  image_id       = "ami-0123456789abcdef0"
  domain         = "eu.mesh.example.org"
  zone_id        = "Z0000000000EU"
  authority_arn  = "arn:aws:acm-pca:eu-central-1:222222222222:certificate-authority/00000000-0000-0000-0000-000000000000"
  uplink_url     = "https://global.mesh.example.org:7443"
  budget_usd     = 5000
  alarm_email    = "operator@example.org"
}

run "every_store_has_the_key_of_the_region" {
  command = plan
  override_resource {
    target          = aws_kms_key.data
    override_during = plan
    values          = { arn = "arn:aws:kms:eu-central-1:222222222222:key/00000000-0000-0000-0000-000000000000" }
  }
  assert {
    condition = length(distinct([
      aws_rds_cluster.fhir.kms_key_id, aws_rds_cluster.fhir.master_user_secret_kms_key_id, aws_ebs_volume.node.kms_key_id, aws_backup_vault.this.kms_key_arn,
      aws_msk_cluster.this.encryption_info[0].encryption_at_rest_kms_key_arn, aws_kms_key.data[0].arn,
      aws_sns_topic.alarms.kms_master_key_id, aws_cloudwatch_log_group.this["node"].kms_key_id,
    ])) == 1
    error_message = "PostgreSQL, its secret, Kafka, disks, backups, logs and alarms have one key"
  }
  assert {
    condition     = aws_rds_cluster.fhir.storage_encrypted && aws_ebs_volume.node.encrypted && !aws_kms_key.data[0].multi_region
    error_message = "everything at rest is encrypted, with a key that stays"
  }
}

run "nothing_is_public" {
  command = plan
  assert {
    condition     = aws_lb.this.internal && alltrue([for subnet in aws_subnet.private : !subnet.map_public_ip_on_launch]) && alltrue([for instance in aws_rds_cluster_instance.fhir : !instance.publicly_accessible])
    error_message = "no address is public"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.facility : rule.cidr_ipv4 == "10.200.1.0/24"])
    error_message = "only facilities come in"
  }
}

run "a_store_is_spread_over_three_zones" {
  command = plan
  assert {
    condition     = length(distinct([for instance in aws_rds_cluster_instance.fhir : instance.availability_zone])) == 3 && length(distinct([for machine in aws_instance.scylla : machine.tags["Name"]])) == 3 && aws_msk_cluster.this.number_of_broker_nodes == 3
    error_message = "a zone each"
  }
}

run "failover_stays_in_the_zone_of_the_jurisdiction" {
  command = plan
  assert {
    condition     = alltrue([for record in aws_route53_record.ingest : record.zone_id == var.zone_id && one(record.alias).zone_id == var.zone_id && endswith(one(record.alias).name, ".eu.mesh.example.org")])
    error_message = "both ends of a failover are in one jurisdiction"
  }
}

run "a_store_that_is_made_elsewhere_is_an_error" {
  command = plan
  override_resource {
    target          = aws_rds_cluster.fhir
    override_during = plan
    values          = { arn = "arn:aws:rds:us-east-1:222222222222:cluster:medmesh" }
  }
  expect_failures = [aws_rds_cluster.fhir]
}

run "a_region_refers_to_nothing_elsewhere" {
  command = plan
  module {
    source = "../residency"
  }
  variables {
    pair           = "us-east-1"
    retention_days = 35
  }
  expect_failures = [var.pair]
}

# What is written to the machine's own disk goes with the machine.
run "the_node_starts_only_where_the_disk_that_outlives_its_machine_is_mounted" {
  command = plan
  assert {
    condition = length([
      for step in yamldecode(templatefile("templates/node.yaml.tftpl", { config = output.node_config, region = "eu-central-1", volume = "vol-0123" })).runcmd : step
      if !can(regex("(?s)^set -eu\n.*attach-volume .*--volume-id vol-0123 .*blkid .*mkfs.ext4 .*enable --now var-lib-medmesh.mount\n.*enable --now medmesh@regional\n$", step))
    ]) == 0
    error_message = "one script that ends with its first failed step: attach, a file system where there is none, mount, start"
  }
  assert {
    condition = join("", [
      for file in yamldecode(templatefile("templates/node.yaml.tftpl", { config = output.node_config, region = "eu-central-1", volume = "vol-0123" })).write_files :
      file.content if endswith(file.path, "medmesh@regional.service.d/disk.conf")
    ]) == "[Unit]\nRequires=var-lib-medmesh.mount\nAfter=var-lib-medmesh.mount\n"
    error_message = "after each boot the node waits for its disk"
  }
}
