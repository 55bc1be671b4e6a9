# What holds over all jurisdictions, in the account of the organisation: service control policies that deny every region
# where another law applies, whatever an administrator of a jurisdiction's account does. No data at all.
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
  # Services without regions, or that answer from one for all.
  worldwide = [
    "acm:*", "budgets:*", "ce:*", "cloudfront:*", "globalaccelerator:*", "health:*", "iam:*", "organizations:*",
    "route53:*", "route53domains:*", "shield:*", "sts:*", "support:*", "tag:*", "trustedadvisor:*", "waf:*",
  ]

  policies = { for name, one in var.jurisdictions : name => {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyWhereTheLawApplies"
        Effect    = "Deny"
        NotAction = local.worldwide
        Resource  = "*"
        Condition = { StringNotEquals = { "aws:RequestedRegion" = one.lawful } }
      },
      {
        Sid      = "NoCopyToAnotherAccount"
        Effect   = "Deny"
        Action   = ["rds:ModifyDBSnapshotAttribute", "rds:ModifyDBClusterSnapshotAttribute", "ec2:ModifySnapshotAttribute", "ec2:ModifyImageAttribute", "backup:PutBackupVaultAccessPolicy"]
        Resource = "*"
      },
      {
        Sid      = "KeysStayAndStaySecret"
        Effect   = "Deny"
        Action   = ["kms:ReplicateKey", "kms:UpdatePrimaryRegion", "kms:DisableKeyRotation", "kms:ScheduleKeyDeletion"]
        Resource = "*"
      },
      {
        Sid      = "NothingStopsTheRecords"
        Effect   = "Deny"
        Action   = ["cloudtrail:DeleteTrail", "cloudtrail:StopLogging", "ec2:DeleteFlowLogs", "backup:DeleteBackupVault", "backup:DeleteRecoveryPoint", "organizations:LeaveOrganization"]
        Resource = "*"
      },
      {
        Sid      = "NoWayOut"
        Effect   = "Deny"
        Action   = ["ec2:CreateInternetGateway", "ec2:AttachInternetGateway", "ec2:CreateNatGateway", "ec2:AllocateAddress"]
        Resource = "*"
      },
      # A network may be joined to one of the same account and law, which is to say to its pair. Of the two keys each is looked
      # at by itself: conditions of one statement are taken together.
      {
        Sid       = "NoPeerElsewhere"
        Effect    = "Deny"
        Action    = ["ec2:CreateVpcPeeringConnection", "ec2:AcceptVpcPeeringConnection"]
        Resource  = "arn:aws:ec2:*:*:vpc-peering-connection/*"
        Condition = { ArnNotLike = { "ec2:AccepterVpc" = [for region in one.lawful : "arn:aws:ec2:${region}:${one.account_id}:vpc/*"] } }
      },
      {
        Sid       = "NoPeerFromElsewhere"
        Effect    = "Deny"
        Action    = ["ec2:CreateVpcPeeringConnection", "ec2:AcceptVpcPeeringConnection"]
        Resource  = "arn:aws:ec2:*:*:vpc-peering-connection/*"
        Condition = { ArnNotLike = { "ec2:RequesterVpc" = [for region in one.lawful : "arn:aws:ec2:${region}:${one.account_id}:vpc/*"] } }
      },
      # A private link leads to the cloud's own services and to the global node.
      {
        Sid       = "NoLinkElsewhere"
        Effect    = "Deny"
        Action    = ["ec2:CreateVpcEndpoint"]
        Resource  = "arn:aws:ec2:*:*:vpc-endpoint/*"
        Condition = { StringNotEquals = { "ec2:VpceServiceOwner" = ["amazon", var.global_account_id] } }
      },
    ]
  } }
}

resource "aws_organizations_organizational_unit" "jurisdiction" {
  for_each  = var.jurisdictions
  name      = "medmesh-${each.key}"
  parent_id = var.parent_id
  tags      = { system = "medmesh", jurisdiction = each.key }
}

resource "aws_organizations_policy" "jurisdiction" {
  for_each    = var.jurisdictions
  name        = "medmesh-${each.key}"
  description = "What the law of ${each.key} asks of everything in its account"
  type        = "SERVICE_CONTROL_POLICY"
  content     = jsonencode(local.policies[each.key])
  tags        = { system = "medmesh", jurisdiction = each.key }

  lifecycle {
    precondition {
      # AWS Organizations, quotas: a service control policy has at most 5,120 characters.
      condition     = length(jsonencode(local.policies[each.key])) <= 5120
      error_message = "The policy of ${each.key} is longer than 5,120 characters."
    }
  }
}

resource "aws_organizations_policy_attachment" "jurisdiction" {
  for_each  = var.jurisdictions
  policy_id = aws_organizations_policy.jurisdiction[each.key].id
  target_id = aws_organizations_organizational_unit.jurisdiction[each.key].id
}
