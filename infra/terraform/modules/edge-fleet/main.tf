# What the cloud knows of a region's facilities: the line of each, and the configuration that its node is to have. Their
# machines are the facilities' own. No patient, no key and no code of an invitation passes through here.
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
  tags = { system = "medmesh", jurisdiction = var.jurisdiction, region = var.region, data = "none" }
}

module "config" {
  source     = "../node-config"
  for_each   = var.facilities
  tier       = "edge"
  place      = { jurisdiction = var.jurisdiction, region = var.region, facility = each.key }
  dirs       = { config = "/var/lib/medmesh", data = "/var/lib/medmesh/data", authority = "/etc/medmesh" }
  listen     = { https = "0.0.0.0:8443", mqtt = "0.0.0.0:8883" }
  public_url = "https://${each.value.host}:8443"
  uplink_url = var.ingest_url
  disk       = each.value.disk
  devices    = each.value.devices
}

# The facility's end of the line, and the line.
resource "aws_customer_gateway" "facility" {
  for_each   = var.facilities
  type       = "ipsec.1"
  bgp_asn    = 65000
  ip_address = each.value.gateway
  tags       = merge(local.tags, { Name = "medmesh-${each.key}", facility = each.key })
}

resource "aws_vpn_connection" "facility" {
  for_each             = var.facilities
  type                 = "ipsec.1"
  customer_gateway_id  = aws_customer_gateway.facility[each.key].id
  vpn_gateway_id       = var.vpn_gateway_id
  static_routes_only   = true
  tunnel1_ike_versions = ["ikev2"]
  tunnel2_ike_versions = ["ikev2"]
  tags                 = merge(local.tags, { Name = "medmesh-${each.key}", facility = each.key })
}

resource "aws_vpn_connection_route" "facility" {
  for_each               = var.facilities
  vpn_connection_id      = aws_vpn_connection.facility[each.key].id
  destination_cidr_block = each.value.cidr
}

# The configuration, for the facility's staff to fetch. It names no patient and holds no secret.
resource "aws_ssm_parameter" "config" {
  for_each    = var.facilities
  name        = "/medmesh/edge/${each.key}/edge.toml"
  description = "The configuration of the node of ${each.key}"
  type        = "SecureString"
  key_id      = var.key_arn
  tier        = "Advanced"
  value       = module.config[each.key].toml
  tags        = merge(local.tags, { facility = each.key })
}
