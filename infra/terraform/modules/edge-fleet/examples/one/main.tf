# terraform init && AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x terraform plan
terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region                      = "eu-central-1"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

module "edge_fleet" {
  source         = "../.."
  region         = "eu-central-1"
  jurisdiction   = "eu"
  ingest_url     = "https://ingest.eu-central-1.eu.mesh.example.org:7443"
  vpn_gateway_id = "vgw-0123456789abcdef0"
  key_arn        = "arn:aws:kms:eu-central-1:222222222222:key/00000000-0000-0000-0000-000000000000"
  facilities = {
    charite-berlin = {
      jurisdiction = "eu"
      gateway      = "192.0.2.1"
      cidr         = "10.200.1.0/24"
      host         = "edge.charite-berlin.example.org"
      devices      = [{ id = "monitor-b1", kind = "bedside-monitor", bed = "b1", profile = "medmesh-monitor", address = "tcp://10.200.1.11:502" }]
    }
  }
}

output "node_configs" {
  description = "The configuration of each facility's node."
  value       = module.edge_fleet.node_configs
}
