# The two nodes of the region, each in a zone and with a disk of its own, over one PostgreSQL: both serve, one of them writes
# the region's files, the other takes over (docs/decisions/008-two-nodes-per-region.md).
module "nodes" {
  source       = "../region-nodes"
  region       = var.region
  jurisdiction = var.jurisdiction
  domain       = var.domain
  uplink_url   = var.uplink_url
  enrolment    = var.enrolment
  clients      = var.clients
}

module "machine" {
  source             = "../machine"
  for_each           = { a = var.zones[0], b = var.zones[1] }
  name               = "node-${each.key}"
  tier               = "regional"
  region             = var.region
  account_id         = var.account_id
  zone               = local.zones[each.value]
  subnet_id          = module.place.subnets[each.value].id
  security_group_ids = [aws_security_group.node.id]
  target_group_arns = concat(
    [for name, listener in module.nodes.listeners.shared : aws_lb_target_group.shared[name].arn],
    [for name, listener in module.nodes.listeners.own : aws_lb_target_group.own[name].arn if contains(listener.nodes, each.key)],
  )
  config        = module.nodes.configs[each.key]
  ports         = { ready = local.ports.ready, asked = local.ports.metrics }
  image_id      = var.image_id
  instance_type = var.sizes.node
  disk_gb       = var.sizes.node_disk
  key_arn       = local.key_arn
  backups       = module.place.backups
  metrics       = module.place.metrics
  tags          = local.tags
}

# What the machines of ScyllaDB may do, which is to be looked after, and what watches PostgreSQL.
resource "aws_iam_instance_profile" "scylla" {
  name = "${local.name}-${var.region}-scylla"
  role = aws_iam_role.this["scylla"].name
  tags = local.tags
}

resource "aws_iam_role" "this" {
  for_each = {
    scylla   = "ec2.amazonaws.com"
    database = "monitoring.rds.amazonaws.com"
  }
  name = "${local.name}-${var.region}-${each.key}"
  tags = local.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = each.value }
      Action    = "sts:AssumeRole"
      Condition = each.key == "scylla" ? {} : { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = {
    scylla   = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    database = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
  }
  role       = aws_iam_role.this[each.key].name
  policy_arn = each.value
}
