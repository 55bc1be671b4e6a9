# Frankfurt alone. Look at it without an account:
#   terraform init && AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x terraform plan
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

module "region" {
  source         = "../.."
  region         = "eu-central-1"
  jurisdiction   = "eu"
  lawful         = ["eu-central-1", "eu-west-1"]
  account_id     = "222222222222"
  pair           = "eu-west-1"
  backup_region  = "eu-west-1"
  cidr           = "10.20.0.0/16"
  pair_cidr      = "10.21.0.0/16"
  facility_cidrs = { charite-berlin = "10.200.1.0/24" }
  image_id       = "ami-0123456789abcdef0"
  domain         = "eu.mesh.example.org"
  zone_id        = "Z0000000000EU"
  authority_arn  = "arn:aws:acm-pca:eu-central-1:222222222222:certificate-authority/00000000-0000-0000-0000-000000000000"
  uplink_url     = "https://global.mesh.example.org:7443"
  uplink_service = "com.amazonaws.vpce.eu-west-1.vpce-svc-0123456789abcdef0"
  uplink_region  = "eu-west-1"
  budget_usd     = 5000
  alarm_email    = "operator@example.org"
}

output "fhir" {
  description = "Where the region serves FHIR R4."
  value       = module.region.fhir
}
