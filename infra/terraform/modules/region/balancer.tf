# Where facilities and clients find the region. The balancer passes TLS through: the node itself ends it, as only so it
# sees who connects.
resource "aws_lb" "this" {
  name                             = local.name
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = [for subnet in aws_subnet.private : subnet.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
  tags                             = local.tags
}

resource "aws_lb_target_group" "node" {
  for_each           = toset(["https", "grpc"])
  name               = "${local.name}-${each.key}"
  port               = local.ports[each.key]
  protocol           = "TCP"
  vpc_id             = aws_vpc.this.id
  preserve_client_ip = true
  tags               = local.tags

  health_check {
    protocol            = "HTTPS"
    port                = local.ports.https
    path                = "/ready"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "node" {
  for_each          = aws_lb_target_group.node
  load_balancer_arn = aws_lb.this.arn
  port              = local.ports[each.key]
  protocol          = "TCP"
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = each.value.arn
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
