# terraform init && terraform plan
terraform {
  required_version = ">= 1.11, < 2.0"
}

module "residency" {
  source         = "../.."
  region         = "eu-central-1"
  jurisdiction   = "eu"
  lawful         = ["eu-central-1", "eu-west-1"]
  account_id     = "222222222222"
  pair           = "eu-west-1"
  backup_region  = "eu-west-1"
  facility_cidrs = { charite-berlin = "10.200.1.0/24" }
  cidr           = "10.20.0.0/16"
  pair_cidr      = "10.21.0.0/16"
  uplink_service = "com.amazonaws.vpce.eu-west-1.vpce-svc-0123456789abcdef0"
  uplink_region  = "eu-west-1"
  authority_arn  = "arn:aws:acm-pca:eu-central-1:222222222222:certificate-authority/00000000-0000-0000-0000-000000000000"
}

output "region" {
  description = "The region."
  value       = module.residency.region
}
