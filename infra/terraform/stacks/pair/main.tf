# The way between the two regions of a pair: a state of its own, in the bucket of the region that comes first by its name.
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

provider "aws" {
  alias               = "other"
  region              = var.regions[var.region].pair
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
  layer         = { region = var.region }
}

locals {
  here  = module.topology.regions[var.region]
  there = module.topology.regions[local.here.pair]
}

module "pair" {
  source       = "../../modules/pair"
  providers    = { aws = aws, aws.other = aws.other }
  jurisdiction = local.here.jurisdiction
  lawful       = module.topology.jurisdictions[local.here.jurisdiction].lawful
  account_id   = local.here.account_id
  here         = merge(var.networks[var.region], { region = var.region, cidr = local.here.cidr })
  other        = merge(var.networks[local.here.pair], { region = local.here.pair, cidr = local.there.cidr })
}

output "peering_id" {
  description = "The peering."
  value       = module.pair.peering_id
}
