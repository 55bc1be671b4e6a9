# The global node in its cloud region and in an account of its own: one machine with a disk that outlives it, in a network
# without a way out. Regions come by a private link, which leads in one direction: what stands here reaches no region. No
# patient-level data.
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
  name  = "medmesh"
  disk  = "/var/lib/medmesh"
  ports = { https = 8443, grpc = 7443, ready = 9080 }
  tags  = { system = local.name, jurisdiction = "none", region = var.region, data = "none" }
}

module "place" {
  source        = "../place"
  region        = var.region
  account_id    = var.account_id
  cidr          = var.cidr
  zones         = var.zones
  backup_region = var.region
  budget_usd    = var.budget_usd
  alarm_email   = var.alarm_email
  tags          = local.tags
}

# The catalog is a file on the disk: what it holds of devices, each region ships again.
module "config" {
  source     = "../node-config"
  tier       = "global"
  place      = {}
  dirs       = { config = local.disk, data = "${local.disk}/data", authority = "${local.disk}/published" }
  listen     = { https = "0.0.0.0:${local.ports.https}", grpc = "0.0.0.0:${local.ports.grpc}" }
  public_url = "https://${var.host}:${local.ports.https}"
  clients    = var.clients
}

module "machine" {
  source             = "../machine"
  name               = "global"
  tier               = "global"
  region             = var.region
  account_id         = var.account_id
  zone               = module.place.subnets[var.zones[0]].zone
  subnet_id          = module.place.subnets[var.zones[0]].id
  security_group_ids = [aws_security_group.node.id]
  target_group_arns  = [for group in aws_lb_target_group.node : group.arn]
  config             = module.config.toml
  ports              = { ready = local.ports.ready, asked = local.ports.https }
  image_id           = var.image_id
  instance_type      = var.instance_type
  disk_gb            = var.disk_gb
  key_arn            = module.place.key_arn
  backups            = module.place.backups
  metrics            = module.place.metrics
  tags               = local.tags
}

resource "aws_security_group" "node" {
  name        = "${local.name}-node"
  description = "The global node"
  vpc_id      = module.place.vpc_id
  tags        = local.tags
}

# The private link and the balancer's own checks come from within the network.
resource "aws_vpc_security_group_ingress_rule" "within" {
  for_each          = local.ports
  security_group_id = aws_security_group.node.id
  cidr_ipv4         = var.cidr
  description       = "From the balancer, ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  security_group_id            = module.place.endpoints_group_id
  referenced_security_group_id = aws_security_group.node.id
  description                  = "HTTPS of the node"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  security_group_id            = aws_security_group.node.id
  referenced_security_group_id = module.place.endpoints_group_id
  description                  = "The cloud's own services"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = local.tags
}

resource "aws_lb" "this" {
  name                             = local.name
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = [for subnet in module.place.subnets : subnet.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
  tags                             = local.tags
}

resource "aws_lb_target_group" "node" {
  for_each               = toset(["https", "grpc"])
  name                   = "${local.name}-${each.key}"
  port                   = local.ports[each.key]
  protocol               = "TCP"
  vpc_id                 = module.place.vpc_id
  preserve_client_ip     = false
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

# The jurisdictions' accounts may ask to be linked to it, from the mesh's regions, and nobody else; a person takes each link
# once.
resource "aws_vpc_endpoint_service" "this" {
  acceptance_required        = true
  network_load_balancer_arns = [aws_lb.this.arn]
  allowed_principals         = [for account in var.accounts : "arn:aws:iam::${account}:root"]
  supported_regions          = var.regions
  tags                       = merge(local.tags, { Name = local.name })
}

resource "aws_cloudwatch_metric_alarm" "node" {
  alarm_name          = "${local.name}-global"
  alarm_description   = "P2: the global node does not answer; regions keep what is for it"
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.node["grpc"].arn_suffix }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "breaching"
  alarm_actions       = [module.place.alarms_arn]
  ok_actions          = [module.place.alarms_arn]
  tags                = local.tags
}
