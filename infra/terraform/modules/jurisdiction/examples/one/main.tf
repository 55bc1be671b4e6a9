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
  region                      = "eu-west-1"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

module "jurisdiction" {
  source       = "../.."
  jurisdiction = "eu"
  account_id   = "222222222222"
  domain       = "eu.mesh.example.org"
}

output "name_servers" {
  description = "Who answers for the domain."
  value       = module.jurisdiction.name_servers
}
