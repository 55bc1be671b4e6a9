# A run `refuses_NAME` belongs to the guard NAME (with - for _) of a store, or of what a person says of the region.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region         = "eu-central-1"
  jurisdiction   = "eu"
  lawful         = ["eu-central-1", "eu-west-1"]
  account_id     = "222222222222"
  pair           = "eu-west-1"
  backup_region  = "eu-west-1"
  cidr           = "10.20.0.0/16"
  pair_cidr      = "10.21.0.0/16"
  facility_cidrs = { berlin = "10.200.1.0/24" }
  image_id       = "ami-0123456789abcdef0"
  domain         = "eu.mesh.example.org"
  zone_id        = "Z0000000000EU"
  authority_arn  = "arn:aws:acm-pca:eu-central-1:222222222222:certificate-authority/00000000-0000-0000-0000-000000000000"
  uplink_url     = "https://global.mesh.example.org:7443"
  uplink_service = "com.amazonaws.vpce.eu-west-1.vpce-svc-0123456789abcdef0"
  uplink_region  = "eu-west-1"
  budget_usd     = 5000
  alarm_email    = "operator@example.org"
}

run "refuses_postgres_made_elsewhere" {
  command = plan
  override_resource {
    target          = aws_rds_cluster.fhir
    override_during = plan
    values          = { arn = "arn:aws:rds:us-east-1:222222222222:cluster:medmesh" }
  }
  expect_failures = [aws_rds_cluster.fhir]
}

run "refuses_kafka_made_elsewhere" {
  command = plan
  override_resource {
    target          = aws_msk_cluster.this
    override_during = plan
    values          = { arn = "arn:aws:kafka:us-east-1:222222222222:cluster/medmesh/1" }
  }
  expect_failures = [aws_msk_cluster.this]
}

run "refuses_uplink_url" {
  command = plan
  variables {
    uplink_url = "https://global.mesh.example.org:70000"
  }
  expect_failures = [var.uplink_url]
}

run "refuses_kafka_disk" {
  command = plan
  variables {
    sizes = { kafka_disk = -1 }
  }
  expect_failures = [var.sizes]
}
