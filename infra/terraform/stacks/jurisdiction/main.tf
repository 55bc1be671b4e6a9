# What a jurisdiction has once: a state in a bucket of one of its regions.
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
  allowed_account_ids = var.without_account ? null : [var.jurisdictions[var.jurisdiction].account_id]

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
  layer         = { region = var.region, jurisdiction = var.jurisdiction }
}

module "jurisdiction" {
  source       = "../../modules/jurisdiction"
  jurisdiction = var.jurisdiction
  account_id   = module.topology.jurisdictions[var.jurisdiction].account_id
  domain       = module.topology.jurisdictions[var.jurisdiction].domain
}

output "authority_arn" {
  description = "Input authority_arn of the layer region."
  value       = module.jurisdiction.authority_arn
}

output "zone_id" {
  description = "Input zone_id of the layer region."
  value       = module.jurisdiction.zone_id
}

output "name_servers" {
  description = "To be named where the domain above is kept."
  value       = module.jurisdiction.name_servers
}
