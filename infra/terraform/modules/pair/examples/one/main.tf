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

provider "aws" {
  alias                       = "other"
  region                      = "eu-central-1"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

module "pair" {
  source       = "../.."
  providers    = { aws = aws, aws.other = aws.other }
  jurisdiction = "eu"
  lawful       = ["eu-central-1", "eu-west-1"]
  account_id   = "222222222222"
  here         = { region = "eu-west-1", vpc_id = "vpc-0123456789abcdef0", cidr = "10.21.0.0/16", route_table_id = "rtb-0123456789abcdef0" }
  other        = { region = "eu-central-1", vpc_id = "vpc-0123456789abcdef1", cidr = "10.20.0.0/16", route_table_id = "rtb-0123456789abcdef1" }
}

output "peering_id" {
  description = "The peering."
  value       = module.pair.peering_id
}
