# The regional node: one machine that a group keeps, and a disk that outlives it. One, because a region's ledgers are on
# that disk: a second one would need them in PostgreSQL.
module "config" {
  source     = "../node-config"
  tier       = "regional"
  place      = { jurisdiction = var.jurisdiction, region = var.region }
  dirs       = { config = "/var/lib/medmesh", data = "/var/lib/medmesh/node", authority = "/etc/medmesh" }
  listen     = { https = "0.0.0.0:${local.ports.https}", grpc = "0.0.0.0:${local.ports.grpc}", metrics = "127.0.0.1:${local.ports.metrics}" }
  public_url = "https://fhir.${var.region}.${var.domain}:${local.ports.https}"
  uplink_url = var.uplink_url
  postgres   = { url_file = "/etc/medmesh/postgres.url", ca = "/etc/medmesh/postgres-ca.pem" }
  enrolment  = var.enrolment
  clients    = var.clients
}

resource "aws_ebs_volume" "node" {
  availability_zone = local.zones[var.zones[0]]
  size              = var.sizes.node_disk
  type              = "gp3"
  encrypted         = true
  kms_key_id        = local.key_arn
  final_snapshot    = true
  tags              = merge(local.tags, { Name = "${local.name}-node", backup = local.name })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_launch_template" "node" {
  name                   = "${local.name}-node"
  image_id               = var.image_id
  instance_type          = var.sizes.node
  update_default_version = true
  ebs_optimized          = true
  tags                   = local.tags
  user_data = base64encode("## template: jinja\n${templatefile("${path.module}/templates/node.yaml.tftpl", {
    config = module.config.toml
    region = var.region
    volume = aws_ebs_volume.node.id
  })}")

  iam_instance_profile {
    name = aws_iam_instance_profile.machine.name
  }
  network_interfaces {
    associate_public_ip_address = false
    security_groups             = [aws_security_group.node.id]
    delete_on_termination       = true
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      encrypted             = true
      kms_key_id            = local.key_arn
      volume_type           = "gp3"
      volume_size           = 20
      delete_on_termination = true
    }
  }
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
  monitoring {
    enabled = true
  }
  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])
    content {
      resource_type = tag_specifications.key
      tags          = merge(local.tags, { Name = "${local.name}-node" })
    }
  }
}

resource "aws_autoscaling_group" "node" {
  name                      = "${local.name}-node"
  min_size                  = 1
  max_size                  = 1
  desired_capacity          = 1
  vpc_zone_identifier       = [aws_subnet.private[var.zones[0]].id]
  target_group_arns         = [for group in aws_lb_target_group.node : group.arn]
  health_check_type         = "ELB"
  health_check_grace_period = 300

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }
  # The disk can be at one machine alone: the old one ends first.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 0
    }
  }
  dynamic "tag" {
    for_each = local.tags
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }
}

# What machines may do: be looked after, write their logs, take their disk.
resource "aws_iam_instance_profile" "machine" {
  name = "${local.name}-${var.region}-machine"
  role = aws_iam_role.this["machine"].name
  tags = local.tags
}

resource "aws_iam_role" "this" {
  for_each = {
    machine  = "ec2.amazonaws.com"
    flow     = "vpc-flow-logs.amazonaws.com"
    database = "monitoring.rds.amazonaws.com"
    backup   = "backup.amazonaws.com"
  }
  name = "${local.name}-${var.region}-${each.key}"
  tags = local.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = each.value }
      Action    = "sts:AssumeRole"
      Condition = each.key == "machine" ? {} : { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = {
    machine  = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    database = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
    backup   = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
  }
  role       = aws_iam_role.this[each.key].name
  policy_arn = each.value
}

resource "aws_iam_role_policy" "this" {
  for_each = {
    machine = [
      { Effect = "Allow", Action = ["ec2:AttachVolume"], Resource = ["arn:aws:ec2:${var.region}:${var.account_id}:volume/*", "arn:aws:ec2:${var.region}:${var.account_id}:instance/*"], Condition = { StringEquals = { "aws:ResourceTag/system" = local.name } } },
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["arn:aws:logs:${var.region}:${var.account_id}:log-group:/${local.name}/*"], Condition = {} },
    ]
    flow = [
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"], Resource = ["arn:aws:logs:${var.region}:${var.account_id}:log-group:/${local.name}/*"], Condition = {} },
    ]
  }
  name   = local.name
  role   = aws_iam_role.this[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}
