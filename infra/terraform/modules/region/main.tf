# Everything of one region in its cloud region: network, key, stores, two nodes, balancers, backups, and who watches them.
# One state each; the provider's region is this region, and no resource names another one.
terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

# Nothing is planned where something is not where it belongs.
module "residency" {
  source         = "../residency"
  jurisdiction   = var.jurisdiction
  lawful         = var.lawful
  account_id     = var.account_id
  pair           = var.pair
  backup_region  = var.backup_region
  key_arn        = var.key_arn
  facility_cidrs = var.facility_cidrs
  authority_arn  = var.authority_arn
  retention_days = var.retention_days
  uplink_service = var.uplink_service
  uplink_region  = var.uplink_region
  pair_cidr      = var.pair_cidr
  cidr           = var.cidr
  region         = var.region
}

module "place" {
  source         = "../place"
  region         = module.residency.region
  account_id     = var.account_id
  cidr           = var.cidr
  zones          = var.zones
  key_arn        = var.key_arn
  backup_region  = var.backup_region
  retention_days = var.retention_days
  budget_usd     = var.budget_usd
  alarm_email    = var.alarm_email
  tags           = local.tags
}

locals {
  name    = "medmesh"
  zones   = { for letter in var.zones : letter => "${var.region}${letter}" }
  key_arn = module.place.key_arn

  tags = {
    system       = "medmesh"
    jurisdiction = var.jurisdiction
    region       = var.region
    data         = "pseudonymous"
  }

  # The name of this region's own address and of that of its pair, both in the zone of the jurisdiction.
  direct = { for region in [var.region, var.pair] : region => "direct.${region}.${var.domain}" }

  ports = merge(module.nodes.ports, { postgres = 5432, kafka_tls = 9094, cql_tls = 9142, gossip_tls = 7001 })
}
