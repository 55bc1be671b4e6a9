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

module "global_node" {
  source      = "../.."
  region      = "eu-west-1"
  account_id  = "444444444444"
  accounts    = ["111111111111", "222222222222", "333333333333"]
  regions     = ["us-east-1", "eu-central-1", "eu-west-1"]
  cidr        = "10.1.0.0/16"
  host        = "global.mesh.example.org"
  image_id    = "ami-0123456789abcdef0"
  budget_usd  = 1000
  alarm_email = "operator@example.org"
}

output "uplink_url" {
  description = "What regions deliver to."
  value       = module.global_node.uplink_url
}
