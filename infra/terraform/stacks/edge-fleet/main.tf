# The facilities of one region: a state of its own, in the bucket of the region.
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
  layer         = { region = var.region, facilities = keys(var.lines) }
}

locals {
  here  = module.topology.regions[var.region]
  there = module.topology.jurisdictions[local.here.jurisdiction]
}

module "edge_fleet" {
  source         = "../../modules/edge-fleet"
  region         = var.region
  jurisdiction   = local.here.jurisdiction
  ingest_url     = var.ingest_url
  vpn_gateway_id = var.vpn_gateway_id
  key_arn        = var.key_arn
  facilities = {
    for name, line in var.lines : name => merge(line, { jurisdiction = module.topology.facilities[name].jurisdiction })
  }
}

output "facility_cidrs" {
  description = "The network of each facility: input facility_cidrs of the layer region."
  value       = module.edge_fleet.cidrs
}

output "node_configs" {
  description = "The configuration of each facility's node (TOML)."
  value       = module.edge_fleet.node_configs
}
