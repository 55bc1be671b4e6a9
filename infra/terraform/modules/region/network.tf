# A network without a way out: no internet gateway, no NAT, no public address. The cloud's own services are reached by
# endpoints, facilities by VPN or a line of their own.
resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = local.name })
}

resource "aws_subnet" "private" {
  for_each                = local.zones
  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.value
  cidr_block              = cidrsubnet(var.cidr, 4, index(var.zones, each.key))
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${local.name}-${each.key}" })
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = local.name })
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}

# Facilities come in here.
resource "aws_vpn_gateway" "facilities" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${local.name}-facilities" })
}

resource "aws_vpn_gateway_route_propagation" "facilities" {
  vpn_gateway_id = aws_vpn_gateway.facilities.id
  route_table_id = aws_route_table.private.id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private.id]
  tags              = local.tags
}

resource "aws_vpc_endpoint" "service" {
  for_each            = toset(["ec2", "kms", "logs", "monitoring", "secretsmanager", "ssm", "ssmmessages"])
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.private : subnet.id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags                = local.tags
}

# The default group lets nothing through.
resource "aws_default_security_group" "none" {
  vpc_id = aws_vpc.this.id
  tags   = local.tags
}

resource "aws_security_group" "endpoints" {
  name        = "${local.name}-endpoints"
  description = "Endpoints of the cloud's services"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_security_group" "node" {
  name        = "${local.name}-node"
  description = "The regional node"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_security_group" "postgres" {
  name        = "${local.name}-postgres"
  description = "PostgreSQL, from the node alone"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_security_group" "kafka" {
  name        = "${local.name}-kafka"
  description = "Kafka, from the node alone"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_security_group" "scylla" {
  name        = "${local.name}-scylla"
  description = "ScyllaDB, from the node and from its own"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

# Who reaches what: the group, the port, and the group that it is reached from.
resource "aws_vpc_security_group_ingress_rule" "between" {
  for_each = {
    endpoints = { to = aws_security_group.endpoints.id, from = aws_security_group.node.id, port = 443, what = "HTTPS of the node" }
    watchers  = { to = aws_security_group.endpoints.id, from = aws_security_group.scylla.id, port = 443, what = "HTTPS of ScyllaDB machines" }
    postgres  = { to = aws_security_group.postgres.id, from = aws_security_group.node.id, port = local.ports.postgres, what = "PostgreSQL over TLS" }
    kafka     = { to = aws_security_group.kafka.id, from = aws_security_group.node.id, port = local.ports.kafka_tls, what = "Kafka over mTLS" }
    cql       = { to = aws_security_group.scylla.id, from = aws_security_group.node.id, port = local.ports.cql_tls, what = "CQL over TLS" }
    gossip    = { to = aws_security_group.scylla.id, from = aws_security_group.scylla.id, port = local.ports.gossip_tls, what = "ScyllaDB between its nodes, over TLS" }
  }
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

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each          = toset(["https", "grpc"])
  security_group_id = aws_security_group.node.id
  cidr_ipv4         = var.cidr
  description       = "Health checks of the balancer, ${each.key}"
  ip_protocol       = "tcp"
  from_port         = local.ports[each.key]
  to_port           = local.ports[each.key]
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "within" {
  for_each          = { node = aws_security_group.node.id, scylla = aws_security_group.scylla.id }
  security_group_id = each.value
  cidr_ipv4         = var.cidr
  description       = "Within the region's network"
  ip_protocol       = "-1"
  tags              = local.tags
}

resource "aws_flow_log" "this" {
  vpc_id               = aws_vpc.this.id
  traffic_type         = "ALL"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.this["flow"].arn
  iam_role_arn         = aws_iam_role.this["flow"].arn
  tags                 = local.tags
}
