# The way between the two regions of a pair, within one jurisdiction: a peering of their networks, over which ScyllaDB of the
# one reaches that of the other. What comes through is said by the groups of the module region: gossip over TLS, and nothing
# else.
terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    aws = {
      source                = "hashicorp/aws"
      version               = ">= 5.100, < 7"
      configuration_aliases = [aws, aws.other]
    }
  }
}

locals {
  tags = { system = "medmesh", jurisdiction = var.jurisdiction, region = var.here.region, data = "pseudonymous", Name = "medmesh-${var.here.region}-${var.other.region}" }
}

resource "aws_vpc_peering_connection" "this" {
  vpc_id        = var.here.vpc_id
  peer_vpc_id   = var.other.vpc_id
  peer_region   = var.other.region
  peer_owner_id = var.account_id
  tags          = local.tags
}

resource "aws_vpc_peering_connection_accepter" "other" {
  provider                  = aws.other
  vpc_peering_connection_id = aws_vpc_peering_connection.this.id
  auto_accept               = true
  tags                      = merge(local.tags, { region = var.other.region })
}

resource "aws_route" "there" {
  route_table_id            = var.here.route_table_id
  destination_cidr_block    = var.other.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.other.vpc_peering_connection_id
}

resource "aws_route" "back" {
  provider                  = aws.other
  route_table_id            = var.other.route_table_id
  destination_cidr_block    = var.here.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.other.vpc_peering_connection_id
}
