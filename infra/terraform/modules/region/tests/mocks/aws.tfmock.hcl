# What the cloud would say.
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
mock_resource "aws_vpc_endpoint" {
  defaults = { dns_entry = [{ dns_name = "vpce-1.eu-central-1.vpce.amazonaws.com", hosted_zone_id = "Z1" }] }
}
mock_resource "aws_backup_vault" {
  defaults = { arn = "arn:aws:backup:eu-central-1:222222222222:backup-vault:medmesh" }
}
mock_resource "aws_ebs_volume" {
  defaults = { arn = "arn:aws:ec2:eu-central-1:222222222222:volume/vol-1", id = "vol-1" }
}
