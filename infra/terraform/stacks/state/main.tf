# The bucket in which the states of a region are, in that region and under a key of its own. Its own state stays where it
# is applied, on the operator's machine: it holds nothing but this bucket. With an account of no jurisdiction it is the bucket
# of the global node.
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
  region              = var.region
  allowed_account_ids = var.without_account ? null : [local.here.account_id]

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
  layer         = { region = var.region, account_id = var.account_id }
}

locals {
  own  = { jurisdiction = "none", account_id = var.account_id }
  here = var.account_id == null ? { jurisdiction = module.topology.regions[var.region].jurisdiction, account_id = module.topology.regions[var.region].account_id } : local.own
  tags = { jurisdiction = local.here.jurisdiction, region = var.region, data = "state" }
}

resource "aws_kms_key" "state" {
  description             = "medmesh ${var.region}: Terraform's states"
  multi_region            = false
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = local.tags
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Sid = "Account", Effect = "Allow", Principal = { AWS = "arn:aws:iam::${local.here.account_id}:root" }, Action = "kms:*", Resource = "*" }]
  })
}

resource "aws_kms_alias" "state" {
  name          = "alias/medmesh-state"
  target_key_id = aws_kms_key.state.arn
}

resource "aws_s3_bucket" "state" {
  bucket = "medmesh-state-${local.here.account_id}-${var.region}"
  tags   = local.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket                  = aws_s3_bucket.state.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.state.arn
    }
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
