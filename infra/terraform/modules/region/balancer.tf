# Where facilities and clients find the region, at whichever of its nodes can serve. The balancer passes TLS through: the node
# itself ends it, as only so it sees who connects. Elastic Load Balancing checks no target that speaks TLS 1.3 alone, as nodes
# do (User Guide for Network Load Balancers, Health checks): each machine tells in the clear what its node says of itself.
resource "aws_lb" "this" {
  name                             = local.name
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = [for subnet in module.place.subnets : subnet.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
  tags                             = local.tags
}

# Where the two nodes reach each other, and nobody else does. A balancer of its own: Route 53 takes one for ill as soon as
# one of its groups has no healthy target, and the loss of one node is no reason to lead clients to another region.
resource "aws_lb" "pair" {
  name                             = "${local.name}-pair"
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = [for subnet in module.place.subnets : subnet.id]
  security_groups                  = [aws_security_group.pair.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
  tags                             = local.tags
}

resource "aws_lb_target_group" "shared" {
  for_each               = module.nodes.listeners.shared
  name                   = "${local.name}-${each.key}"
  port                   = each.value.target
  protocol               = "TCP"
  vpc_id                 = module.place.vpc_id
  preserve_client_ip     = true
  deregistration_delay   = 30
  connection_termination = true
  tags                   = local.tags

  health_check {
    protocol            = "HTTP"
    port                = local.ports.ready
    path                = "/ready"
    interval            = 5
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group" "own" {
  for_each               = module.nodes.listeners.own
  name                   = "${local.name}-${each.key}"
  port                   = each.value.target
  protocol               = "TCP"
  vpc_id                 = module.place.vpc_id
  preserve_client_ip     = true
  deregistration_delay   = 30
  connection_termination = true
  tags                   = local.tags

  # Whether it can be reached at all: what it cannot do at the moment it says to the other one itself.
  health_check {
    protocol            = "TCP"
    interval            = 5
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "node" {
  for_each          = merge(module.nodes.listeners.shared, module.nodes.listeners.own)
  load_balancer_arn = contains(keys(module.nodes.listeners.own), each.key) ? aws_lb.pair.arn : aws_lb.this.arn
  port              = each.value.port
  protocol          = "TCP"
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = merge(aws_lb_target_group.shared, aws_lb_target_group.own)[each.key].arn
  }
}

resource "aws_route53_record" "pair" {
  zone_id = var.zone_id
  name    = module.nodes.host
  type    = "A"

  alias {
    name                   = aws_lb.pair.dns_name
    zone_id                = aws_lb.pair.zone_id
    evaluate_target_health = false
  }
}

# This region's own address.
resource "aws_route53_record" "direct" {
  zone_id = var.zone_id
  name    = local.direct[var.region]
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = true
  }
}

# The name that facilities of this region deliver to: this region, and its pair while this one does not answer. Both are
# in the zone of the jurisdiction, so that no failover leaves it.
resource "aws_route53_record" "ingest" {
  for_each       = { PRIMARY = local.direct[var.region], SECONDARY = local.direct[var.pair] }
  zone_id        = var.zone_id
  name           = "ingest.${var.region}.${var.domain}"
  type           = "A"
  set_identifier = lower(each.key)

  failover_routing_policy {
    type = each.key
  }
  alias {
    name                   = each.value
    zone_id                = var.zone_id
    evaluate_target_health = true
  }
  depends_on = [aws_route53_record.direct]
}

# The name that clients of the jurisdiction ask: the nearer of its regions that answers.
resource "aws_route53_record" "fhir" {
  zone_id        = var.zone_id
  name           = "fhir.${var.domain}"
  type           = "A"
  set_identifier = var.region

  latency_routing_policy {
    region = var.region
  }
  alias {
    name                   = aws_route53_record.direct.name
    zone_id                = var.zone_id
    evaluate_target_health = true
  }
}

# And the one by which links in an answer name this very region.
resource "aws_route53_record" "fhir_here" {
  zone_id = var.zone_id
  name    = "fhir.${var.region}.${var.domain}"
  type    = "A"

  alias {
    name                   = aws_route53_record.direct.name
    zone_id                = var.zone_id
    evaluate_target_health = true
  }
}
