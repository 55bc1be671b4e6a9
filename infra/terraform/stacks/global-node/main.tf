# The global node: a state of its own, in a bucket of its region and account. No patient-level data.
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
  allowed_account_ids = var.without_account ? null : [var.account_id]

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

module "global_node" {
  source      = "../../modules/global-node"
  region      = module.topology.global.region
  account_id  = var.account_id
  accounts    = [for one in module.topology.jurisdictions : one.account_id]
  regions     = keys(module.topology.regions)
  cidr        = module.topology.global.cidr
  host        = var.host
  clients     = var.clients
  image_id    = var.image_id
  budget_usd  = var.budget_usd
  alarm_email = var.alarm_email
}

output "service" {
  description = "Input uplink_service of the layer region."
  value       = module.global_node.service
}

output "uplink_url" {
  description = "Input uplink_url of the layer region."
  value       = module.global_node.uplink_url
}

output "node_config" {
  description = "The configuration that the node reads (TOML)."
  value       = module.global_node.node_config
}
