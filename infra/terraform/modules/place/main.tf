# What every place of the mesh in a cloud has, a region as well as the global node: a network without a way out, a key that
# stays, logs, backups that nobody can empty, and who is told of alarms and costs.
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
  name    = "medmesh"
  zones   = { for letter in var.zones : letter => "${var.region}${letter}" }
  key_arn = var.key_arn == null ? aws_kms_key.data[0].arn : var.key_arn
  account = "arn:aws:iam::${var.account_id}:root"
}

resource "aws_iam_role" "this" {
  for_each = {
    flow   = "vpc-flow-logs.amazonaws.com"
    backup = "backup.amazonaws.com"
  }
  name = "${local.name}-${var.region}-${each.key}"
  tags = var.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = each.value }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "backup" {
  role       = aws_iam_role.this["backup"].name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
}

resource "aws_iam_role_policy" "flow" {
  name = local.name
  role = aws_iam_role.this["flow"].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"]
      Resource = ["arn:aws:logs:${var.region}:${var.account_id}:log-group:/${local.name}/*"]
    }]
  })
}
