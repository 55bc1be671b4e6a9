# One region in its cloud region: a state of its own, in a bucket of the same region.
terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
  # Where the state is: environments/prod/REGION.s3.tfbackend, and a key of the layer.
  backend "s3" {}
}

provider "aws" {
  region              = var.region
  allowed_account_ids = var.without_account ? null : [local.here.account_id]

  # For a plan without an account; false in earnest.
  skip_credentials_validation = var.without_account
  skip_requesting_account_id  = var.without_account
  skip_metadata_api_check     = var.without_account

  default_tags {
    tags = { system = "medmesh", managed_by = "terraform" }
  }
}

module "topology" {
  source        = "../../modules/topology"
  jurisdictions = var.jurisdictions
  global        = var.global
  regions       = var.regions
  facilities    = var.facilities
  file          = "${path.root}/../../regions.tfvars.json"
  layer         = { region = var.region, facilities = keys(var.facility_cidrs) }
}

locals {
  here  = module.topology.regions[var.region]
  there = module.topology.jurisdictions[local.here.jurisdiction]
}

module "region" {
  source         = "../../modules/region"
  region         = var.region
  jurisdiction   = local.here.jurisdiction
  lawful         = local.there.lawful
  account_id     = local.here.account_id
  pair           = local.here.pair
  backup_region  = local.here.backup
  key_arn        = local.here.key_arn
  cidr           = local.here.cidr
  pair_cidr      = module.topology.regions[local.here.pair].cidr
  domain         = local.here.domain
  facility_cidrs = var.facility_cidrs
  image_id       = var.image_id
  zone_id        = var.zone_id
  authority_arn  = var.authority_arn
  uplink_url     = var.uplink_url
  uplink_service = var.uplink_service
  uplink_region  = module.topology.global.region
  enrolment      = var.enrolment
  clients        = var.clients
  sizes          = var.sizes
  budget_usd     = var.budget_usd
  alarm_email    = var.alarm_email
}

output "region" {
  description = "What the layers edge-fleet and pair and people need of the region."
  value = {
    ingest         = module.region.ingest
    fhir           = module.region.fhir
    vpn_gateway_id = module.region.vpn_gateway_id
    key_arn        = module.region.key_arn
    stores         = module.region.stores
    network        = module.region.network
    node_groups    = module.region.node_groups
    keyspaces      = module.region.keyspaces
  }
}

output "node_configs" {
  description = "The configuration that each of the region's two nodes reads (TOML)."
  value       = module.region.node_configs
}

output "rollout" {
  description = "The order in which a new image or version comes to the regions."
  value       = module.topology.rollout
}
