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

module "machine" {
  source             = "../.."
  name               = "node"
  tier               = "global"
  region             = "eu-west-1"
  account_id         = "444444444444"
  zone               = "eu-west-1a"
  subnet_id          = "subnet-0123456789abcdef0"
  security_group_ids = ["sg-0123456789abcdef0"]
  target_group_arns  = []
  config             = "data_dir = \"/var/lib/medmesh/data\"\n"
  ports              = { ready = 9080, asked = 8443 }
  image_id           = "ami-0123456789abcdef0"
  instance_type      = "m7g.large"
  disk_gb            = 100
  key_arn            = "arn:aws:kms:eu-west-1:444444444444:key/00000000-0000-0000-0000-000000000000"
  backups            = { plan_id = "0", role_arn = "arn:aws:iam::444444444444:role/medmesh-backup" }
  tags               = { system = "medmesh" }
}

output "group" {
  description = "The group that keeps it."
  value       = module.machine.group
}
