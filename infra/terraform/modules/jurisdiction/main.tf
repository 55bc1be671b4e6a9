# What a jurisdiction has once, in its own account and in one of its regions: its private certificate authority, its
# domain, and the buckets and vaults that are not of one region alone. No patient data.
terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

locals {
  name = "medmesh"
  tags = { system = local.name, jurisdiction = var.jurisdiction, data = "none" }
}

# By which clients of Kafka are known. The mesh's own authority (`medmesh pki`) is another one, on no machine of a cloud.
resource "aws_acmpca_certificate_authority" "this" {
  type                            = "ROOT"
  usage_mode                      = "GENERAL_PURPOSE"
  key_storage_security_standard   = "FIPS_140_2_LEVEL_3_OR_HIGHER"
  permanent_deletion_time_in_days = 30
  tags                            = local.tags

  certificate_authority_configuration {
    key_algorithm     = "EC_secp384r1"
    signing_algorithm = "SHA384WITHECDSA"
    subject {
      common_name         = "${local.name} ${var.jurisdiction}"
      organization        = local.name
      organizational_unit = var.jurisdiction
    }
  }
  revocation_configuration {
    crl_configuration {
      enabled            = true
      expiration_in_days = 7
      s3_bucket_name     = aws_s3_bucket.revoked.id
      s3_object_acl      = "BUCKET_OWNER_FULL_CONTROL"
    }
  }

  lifecycle {
    prevent_destroy = true
  }
  depends_on = [aws_s3_bucket_policy.revoked]
}

resource "aws_kms_key" "this" {
  description             = "medmesh ${var.jurisdiction}: revocation lists"
  multi_region            = false
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = local.tags
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Account", Effect = "Allow", Principal = { AWS = "arn:aws:iam::${var.account_id}:root" }, Action = "kms:*", Resource = "*" },
      { Sid = "Authority", Effect = "Allow", Principal = { Service = "acm-pca.amazonaws.com" }, Action = ["kms:GenerateDataKey", "kms:Decrypt"], Resource = "*", Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } } },
    ]
  })
}

resource "aws_s3_bucket" "revoked" {
  bucket = "${local.name}-${var.jurisdiction}-${var.account_id}-revoked"
  tags   = local.tags
}

resource "aws_s3_bucket_public_access_block" "revoked" {
  bucket                  = aws_s3_bucket.revoked.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "revoked" {
  bucket = aws_s3_bucket.revoked.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "revoked" {
  bucket = aws_s3_bucket.revoked.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_policy" "revoked" {
  bucket = aws_s3_bucket.revoked.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Authority"
        Effect    = "Allow"
        Principal = { Service = "acm-pca.amazonaws.com" }
        Action    = ["s3:PutObject", "s3:PutObjectAcl", "s3:GetBucketAcl", "s3:GetBucketLocation"]
        Resource  = [aws_s3_bucket.revoked.arn, "${aws_s3_bucket.revoked.arn}/*"]
        Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
      },
      {
        Sid       = "TlsAlone"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.revoked.arn, "${aws_s3_bucket.revoked.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# The names of the jurisdiction's regions. Addresses in it are private ones.
resource "aws_route53_zone" "this" {
  name          = var.domain
  comment       = "medmesh ${var.jurisdiction}"
  force_destroy = false
  tags          = local.tags
}
