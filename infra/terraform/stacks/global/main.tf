# What holds over all jurisdictions: a state in the account of the organisation. No data.
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
  region              = var.global.region
  allowed_account_ids = var.without_account ? null : [var.organisation_account_id]

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
}

module "global" {
  source            = "../../modules/global"
  parent_id         = var.parent_id
  global_account_id = var.global_account_id
  jurisdictions     = { for name, one in module.topology.jurisdictions : name => { lawful = one.lawful, account_id = one.account_id } }
}

output "units" {
  description = "Where the account of each jurisdiction is to be moved."
  value       = module.global.units
}
