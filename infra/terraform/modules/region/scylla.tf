# ScyllaDB on machines of its own: a rack a zone, with a fixed address each, which is how they find one another. The
# data centre has the region's name; keyspaces name the data centres of the jurisdiction and no others.
resource "aws_network_interface" "scylla" {
  for_each          = aws_subnet.private
  subnet_id         = each.value.id
  private_ips       = [cidrhost(each.value.cidr_block, 10)]
  security_groups   = [aws_security_group.scylla.id]
  description       = "ScyllaDB ${each.key}"
  source_dest_check = true
  tags              = local.tags
}

resource "aws_instance" "scylla" {
  for_each                = local.zones
  ami                     = var.image_id
  instance_type           = var.sizes.scylla
  iam_instance_profile    = aws_iam_instance_profile.machine.name
  disable_api_termination = true
  ebs_optimized           = true
  monitoring              = true
  tags                    = merge(local.tags, { Name = "${local.name}-scylla-${each.key}" })
  volume_tags             = local.tags
  user_data = templatefile("${path.module}/templates/scylla.yaml.tftpl", {
    datacenter   = var.region
    jurisdiction = var.jurisdiction
    rack         = each.value
    address      = cidrhost(cidrsubnet(var.cidr, 4, index(var.zones, each.key)), 10)
    seeds        = [for index in range(3) : cidrhost(cidrsubnet(var.cidr, 4, index), 10)]
    ports        = local.ports
  })

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.scylla[each.key].id
  }
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
  root_block_device {
    encrypted   = true
    kms_key_id  = local.key_arn
    volume_type = "gp3"
    volume_size = 50
  }
}
