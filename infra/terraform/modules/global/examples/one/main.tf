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

module "global" {
  source            = "../.."
  parent_id         = "r-abcd"
  global_account_id = "444444444444"
  jurisdictions = {
    eu = { lawful = ["eu-central-1", "eu-west-1"], account_id = "222222222222" }
  }
}

output "policies" {
  description = "What the account of each jurisdiction may not do."
  value       = module.global.policies
}
