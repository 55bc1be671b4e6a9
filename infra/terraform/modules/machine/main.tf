# The machine of one node: a group that keeps one machine, and a disk that outlives it, in one zone. What is lost with a
# machine comes back by itself: another one takes the disk and starts the node. A machine is replaced when the cloud finds it
# broken, not when its node is not ready: a database that is away for a minute, or a certificate that nobody has brought
# yet, is not mended by another machine.
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
  name = "medmesh-${var.name}"
  tags = merge(var.tags, { Name = local.name, node = var.name })

  # Of what the machine is told at its first boot, all but the name of its disk, which the cloud gives.
  told = {
    name   = var.name
    tier   = var.tier
    config = var.config
    ready  = file("${path.module}/templates/ready.sh")
    ports  = var.ports
    region = var.region
  }
  # What the cloud names, and names of the same length, which are known in the plan.
  named   = { volume = aws_ebs_volume.this.id, metrics = var.metrics == null ? null : var.metrics.endpoint }
  assumed = { volume = "vol-0123456789abcdef0", metrics = var.metrics == null ? null : "https://aps-workspaces.${var.region}.amazonaws.com/workspaces/ws-01234567-89ab-cdef-0123-456789abcdef/" }

  user_data = "## template: jinja\n${templatefile("${path.module}/templates/node.yaml.tftpl", merge(local.told, local.named))}"
  length    = length("## template: jinja\n${templatefile("${path.module}/templates/node.yaml.tftpl", merge(local.told, local.assumed))}")
}

resource "aws_ebs_volume" "this" {
  availability_zone = var.zone
  size              = var.disk_gb
  type              = "gp3"
  encrypted         = true
  kms_key_id        = var.key_arn
  final_snapshot    = true
  tags              = merge(local.tags, { backup = "medmesh" })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_backup_selection" "this" {
  name         = local.name
  plan_id      = var.backups.plan_id
  iam_role_arn = var.backups.role_arn
  resources    = [aws_ebs_volume.this.arn]
}

resource "aws_launch_template" "this" {
  name                   = local.name
  image_id               = var.image_id
  instance_type          = var.instance_type
  update_default_version = true
  ebs_optimized          = true
  tags                   = local.tags
  user_data              = base64encode(local.user_data)

  iam_instance_profile {
    name = aws_iam_instance_profile.this.name
  }
  network_interfaces {
    associate_public_ip_address = false
    security_groups             = var.security_group_ids
    delete_on_termination       = true
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      encrypted             = true
      kms_key_id            = var.key_arn
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
      tags          = local.tags
    }
  }

  lifecycle {
    # EC2, user data: 16 KB before base64.
    precondition {
      condition     = local.length <= 16384
      error_message = "What ${var.name} is told at its first boot (user data) has ${local.length} bytes, and the cloud takes 16,384: its configuration has too many clients."
    }
  }
}

# A new image or configuration comes to a machine with its replacement, which a person begins (README.md): one begun here
# would take both nodes of a region at once.
resource "aws_autoscaling_group" "this" {
  name                = local.name
  min_size            = 1
  max_size            = 1
  desired_capacity    = 1
  vpc_zone_identifier = [var.subnet_id]
  target_group_arns   = var.target_group_arns
  health_check_type   = "EC2"

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
  # The disk can be at one machine alone: the old one ends first.
  instance_maintenance_policy {
    min_healthy_percentage = 0
    max_healthy_percentage = 100
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

# What the machine may do: be looked after, write its logs, take its own disk and no other.
resource "aws_iam_role" "this" {
  name = "${local.name}-${var.region}"
  tags = local.tags
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_instance_profile" "this" {
  name = "${local.name}-${var.region}"
  role = aws_iam_role.this.name
  tags = local.tags
}

resource "aws_iam_role_policy_attachment" "this" {
  role       = aws_iam_role.this.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "this" {
  name = local.name
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([for one in var.metrics[*] : { Effect = "Allow", Action = ["aps:RemoteWrite"], Resource = [one.arn] }], [
      { Effect = "Allow", Action = ["ec2:AttachVolume"], Resource = [aws_ebs_volume.this.arn] },
      { Effect = "Allow", Action = ["ec2:AttachVolume"], Resource = ["arn:aws:ec2:${var.region}:${var.account_id}:instance/*"], Condition = { StringEquals = { "aws:ResourceTag/node" = var.name } } },
      # Whoever attaches an encrypted disk has to be allowed its key (Amazon EBS User Guide, Requirements for encryption).
      { Effect = "Allow", Action = ["kms:CreateGrant"], Resource = [var.key_arn], Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" }, StringEquals = { "kms:ViaService" = "ec2.${var.region}.amazonaws.com" } } },
      { Effect = "Allow", Action = ["kms:Decrypt", "kms:DescribeKey"], Resource = [var.key_arn], Condition = { StringEquals = { "kms:ViaService" = "ec2.${var.region}.amazonaws.com" } } },
      { Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["arn:aws:logs:${var.region}:${var.account_id}:log-group:/medmesh/*"] },
    ])
  })
}
