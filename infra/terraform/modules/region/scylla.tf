# ScyllaDB on machines of its own: a rack a zone, with a fixed address each, which is how they find one another. One ring over
# the two regions of a pair, each a data centre of that name; keyspaces name these two, both of one jurisdiction, and no others.
locals {
  ring = {
    here  = [for index in range(3) : cidrhost(cidrsubnet(var.cidr, 4, index), 10)]
    there = [for index in range(3) : cidrhost(cidrsubnet(var.pair_cidr, 4, index), 10)]
  }
  copies = join(", ", [for region in sort([var.region, var.pair]) : "'${region}': 3"])
  # Said once to any of the machines: who may log in is known in both data centres, as is whatever the mesh keeps.
  keyspaces = join("\n", [
    "ALTER KEYSPACE system_auth WITH replication = {'class': 'NetworkTopologyStrategy', ${local.copies}};",
    "CREATE KEYSPACE IF NOT EXISTS medmesh WITH replication = {'class': 'NetworkTopologyStrategy', ${local.copies}};",
    "",
  ])
}

resource "aws_network_interface" "scylla" {
  for_each          = module.place.subnets
  subnet_id         = each.value.id
  private_ips       = [local.ring.here[index(var.zones, each.key)]]
  security_groups   = [aws_security_group.scylla.id]
  description       = "ScyllaDB ${each.key}"
  source_dest_check = true
  tags              = local.tags
}

resource "aws_instance" "scylla" {
  for_each                = local.zones
  ami                     = var.image_id
  instance_type           = var.sizes.scylla
  iam_instance_profile    = aws_iam_instance_profile.scylla.name
  disable_api_termination = true
  ebs_optimized           = true
  monitoring              = true
  tags                    = merge(local.tags, { Name = "${local.name}-scylla-${each.key}" })
  volume_tags             = local.tags
  user_data = templatefile("${path.module}/templates/scylla.yaml.tftpl", {
    datacenter = var.region
    ring       = "medmesh-${join("-", sort([var.region, var.pair]))}"
    rack       = each.value
    address    = local.ring.here[index(var.zones, each.key)]
    # The same at both ends, so that no end begins a ring of its own.
    seeds     = sort([var.region, var.pair])[0] == var.region ? [local.ring.here[0], local.ring.there[0]] : [local.ring.there[0], local.ring.here[0]]
    keyspaces = local.keyspaces
    ports     = local.ports
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

  # What a machine keeps lies on disks of its own, which are empty once it was stopped, and a change of any of these stops or
  # replaces all three at once: they come to a machine when a person replaces it (README.md).
  lifecycle {
    ignore_changes = [ami, instance_type, user_data]
  }
}
