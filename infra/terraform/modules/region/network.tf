# How facilities come into the region's network, and who in it reaches what.

# Facilities come in here.
resource "aws_vpn_gateway" "facilities" {
  vpc_id = module.place.vpc_id
  tags   = merge(local.tags, { Name = "${local.name}-facilities" })
}

resource "aws_vpn_gateway_route_propagation" "facilities" {
  vpn_gateway_id = aws_vpn_gateway.facilities.id
  route_table_id = module.place.route_table_id
}

# The global node, by a private link: this region reaches it, it reaches nothing here, and no other network is in between.
resource "aws_vpc_endpoint" "uplink" {
  vpc_id             = module.place.vpc_id
  service_name       = var.uplink_service
  service_region     = var.uplink_region == var.region ? null : var.uplink_region
  vpc_endpoint_type  = "Interface"
  subnet_ids         = [for subnet in module.place.subnets : subnet.id]
  security_group_ids = [aws_security_group.uplink.id]
  tags               = merge(local.tags, { Name = "${local.name}-uplink" })
}

# Within this network alone its name is that endpoint.
resource "aws_route53_zone" "uplink" {
  name          = local.uplink_host
  comment       = "medmesh ${var.region}: the global node"
  force_destroy = false
  tags          = local.tags

  vpc {
    vpc_id = module.place.vpc_id
  }
}

resource "aws_route53_record" "uplink" {
  zone_id = aws_route53_zone.uplink.zone_id
  name    = local.uplink_host
  type    = "A"

  alias {
    name                   = aws_vpc_endpoint.uplink.dns_entry[0].dns_name
    zone_id                = aws_vpc_endpoint.uplink.dns_entry[0].hosted_zone_id
    evaluate_target_health = false
  }
}

locals {
  uplink_host = one(regex("^https://([^:/]+):", var.uplink_url))
  uplink_port = tonumber(one(regex(":([0-9]+)$", var.uplink_url)))
}

resource "aws_security_group" "uplink" {
  name        = "${local.name}-uplink"
  description = "The global node, from the nodes alone"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

resource "aws_security_group" "pair" {
  name        = "${local.name}-pair"
  description = "The balancer that the two nodes reach each other by"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

resource "aws_security_group" "node" {
  name        = "${local.name}-node"
  description = "The two nodes of the region"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

resource "aws_security_group" "postgres" {
  name        = "${local.name}-postgres"
  description = "PostgreSQL, from the nodes alone"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

resource "aws_security_group" "kafka" {
  name        = "${local.name}-kafka"
  description = "Kafka, from the nodes alone"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

resource "aws_security_group" "scylla" {
  name        = "${local.name}-scylla"
  description = "ScyllaDB, from its own and from the pair"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

# Who reaches what: the group, the ports, and the group that it is reached from.
resource "aws_vpc_security_group_ingress_rule" "between" {
  for_each = merge({
    endpoints = { to = module.place.endpoints_group_id, from = aws_security_group.node.id, port = 443, what = "HTTPS of the nodes" }
    watchers  = { to = module.place.endpoints_group_id, from = aws_security_group.scylla.id, port = 443, what = "HTTPS of ScyllaDB machines" }
    postgres  = { to = aws_security_group.postgres.id, from = aws_security_group.node.id, port = local.ports.postgres, what = "PostgreSQL over TLS" }
    kafka     = { to = aws_security_group.kafka.id, from = aws_security_group.node.id, port = local.ports.kafka_tls, what = "Kafka over mTLS" }
    cql       = { to = aws_security_group.scylla.id, from = aws_security_group.node.id, port = local.ports.cql_tls, what = "CQL over TLS" }
    gossip    = { to = aws_security_group.scylla.id, from = aws_security_group.scylla.id, port = local.ports.gossip_tls, what = "ScyllaDB between its nodes, over TLS" }
    uplink    = { to = aws_security_group.uplink.id, from = aws_security_group.node.id, port = local.uplink_port, what = "The global node over mTLS" }
    }, {
    for name, listener in module.nodes.listeners.own : "pair-${name}" => {
      to = aws_security_group.pair.id, from = aws_security_group.node.id, port = listener.port, what = "The other node, ${name}"
    }
  })
  security_group_id            = each.value.to
  referenced_security_group_id = each.value.from
  description                  = each.value.what
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  tags                         = local.tags
}

# The balancer keeps the address of who connects.
resource "aws_vpc_security_group_ingress_rule" "facility" {
  for_each = merge([for port in ["https", "grpc"] : {
    for name, cidr in var.facility_cidrs : "${name}-${port}" => { cidr = cidr, port = local.ports[port] }
  }]...)
  security_group_id = aws_security_group.node.id
  cidr_ipv4         = each.value.cidr
  description       = "Facility ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  tags              = local.tags
}

# The balancers' own checks, and the other node, whose address the balancer keeps as well.
resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each          = toset(["https", "grpc", "ready"])
  security_group_id = aws_security_group.node.id
  cidr_ipv4         = var.cidr
  description       = "Balancers and the other node, ${each.key}"
  ip_protocol       = "tcp"
  from_port         = local.ports[each.key]
  to_port           = local.ports[each.key]
  tags              = local.tags
}

# The machines of ScyllaDB in the pair of this region: the way there is made by the layer pair.
resource "aws_vpc_security_group_ingress_rule" "ring" {
  for_each          = toset(local.ring.there)
  security_group_id = aws_security_group.scylla.id
  cidr_ipv4         = "${each.key}/32"
  description       = "ScyllaDB in ${var.pair}, over TLS"
  ip_protocol       = "tcp"
  from_port         = local.ports.gossip_tls
  to_port           = local.ports.gossip_tls
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "ring" {
  for_each          = toset(local.ring.there)
  security_group_id = aws_security_group.scylla.id
  cidr_ipv4         = "${each.key}/32"
  description       = "ScyllaDB in ${var.pair}, over TLS"
  ip_protocol       = "tcp"
  from_port         = local.ports.gossip_tls
  to_port           = local.ports.gossip_tls
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "within" {
  for_each          = { node = aws_security_group.node.id, scylla = aws_security_group.scylla.id, pair = aws_security_group.pair.id }
  security_group_id = each.value
  cidr_ipv4         = var.cidr
  description       = "Within the region's network"
  ip_protocol       = "-1"
  tags              = local.tags
}
