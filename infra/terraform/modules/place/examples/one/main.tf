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

module "place" {
  source        = "../.."
  region        = "eu-west-1"
  account_id    = "444444444444"
  cidr          = "10.1.0.0/16"
  backup_region = "eu-west-1"
  budget_usd    = 1000
  alarm_email   = "operator@example.org"
  tags          = { system = "medmesh", jurisdiction = "none" }
}

output "vpc_id" {
  description = "The network."
  value       = module.place.vpc_id
}
