# The whole mesh on one machine, from the same file and the same templates as `prod`. Builtin provider only.
# `cargo xtask rollout local` builds the program and applies this; README.md says what else there is to say.
terraform {
  required_version = ">= 1.11, < 2.0"
}

module "topology" {
  source             = "../../modules/topology"
  jurisdictions      = var.jurisdictions
  global             = merge(var.global, { port_base = try(var.global.port_base + var.port_shift, null) })
  regions            = { for name, region in var.regions : name => merge(region, { port_base = try(region.port_base + var.port_shift, null) }) }
  facilities         = { for name, facility in var.facilities : name => merge(facility, { port_base = try(facility.port_base + var.port_shift, null) }) }
  only_jurisdictions = var.only_jurisdictions
  file               = "${path.root}/../../regions.tfvars.json"
}

locals {
  dir       = abspath(coalesce(var.dir, "${path.root}/.mesh"))
  places    = module.topology.places
  program   = { for name, place in local.places : name => lookup(var.binaries, coalesce(place.region, "global"), var.binary) }
  installed = { for path in distinct(concat([var.binary], values(local.program))) : path => "${local.dir}/bin/medmesh-${substr(filesha256(path), 0, 16)}" }
  binary    = { for name, path in local.program : name => local.installed[path] }

  # Where a node keeps its files: as `medmesh up` lays them out.
  home = { for name, place in local.places : name => "${local.dir}/${place.tier == "global" ? "global" : "${place.tier}/${coalesce(place.facility, place.region)}"}" }
  # Listeners of a node, one port after the other.
  address = { for name, place in local.places : name => [for offset in range(3 + place.beds) : "127.0.0.1:${place.port_base + offset}"] }
  # Where a node delivers.
  uplink = { for name, place in local.places : name => {
    global   = null
    regional = "https://${local.address["global"][1]}"
    edge     = try("https://${local.address["regional-${place.region}"][1]}", null)
  }[place.tier] }

  clients = [for client in [
    { name = "fhir-reader", scope = "system/*.rs", global = false },
    { name = "operator", scope = "mesh/*.rs", global = true },
    ] : merge(client, {
      client_id  = client.name
      kid        = "${client.name}-1"
      public_key = "${local.dir}/clients/${client.name}.pem"
  })]

  # A monitor at every bed, the last one on a serial line; a probe in the cold store; an analyser; a device of kind
  # external that nobody of ours drives.
  facilities = { for name, place in local.places : name => {
    beds = [for number in range(place.beds) : "b${number + 1}"]
    devices = concat(
      [for number in range(place.beds) : {
        id      = "monitor-b${number + 1}", kind = "bedside-monitor", bed = "b${number + 1}", profile = "medmesh-monitor"
        listen  = number + 1 < place.beds ? local.address[name][2 + number] : null
        pty     = number + 1 < place.beds ? null : "${local.home[name]}/tty-monitor-b${number + 1}"
        address = number + 1 < place.beds ? "tcp://${local.address[name][2 + number]}" : "rtu://${local.home[name]}/tty-monitor-b${number + 1}?baud=115200"
      }],
      [
        { id = "cold-chain-1", kind = "cold-chain", bed = null, profile = "xy-md02", listen = local.address[name][1 + place.beds], pty = null, address = "tcp://${local.address[name][1 + place.beds]}" },
        { id = "lab-1", kind = "lab-analyser", bed = null, profile = null, listen = null, pty = null, address = null },
        { id = "external-1", kind = "external", bed = null, profile = null, listen = null, pty = null, address = null },
      ],
    )
  } if place.tier == "edge" }
}

# Made first and ended last. What a start left behind that Terraform does not know of, because it was killed, ends here.
resource "terraform_data" "mesh" {
  input = { dir = local.dir, binary = abspath(local.installed[var.binary]) }

  lifecycle {
    ignore_changes = [input]
  }

  provisioner "local-exec" {
    quiet       = true
    interpreter = [abspath(var.binary), "local", "install"]
    command     = jsonencode(self.output)
  }

  provisioner "local-exec" {
    when        = destroy
    quiet       = true
    interpreter = [self.output.binary, "local", "sweep"]
    command     = jsonencode({ dir = self.output.dir })
  }
}

# Every version of the program that runs lies in the mesh's own folder: a build changes nothing that runs.
resource "terraform_data" "program" {
  for_each         = toset(values(local.installed))
  triggers_replace = [each.key]
  depends_on       = [terraform_data.mesh]

  provisioner "local-exec" {
    quiet       = true
    interpreter = [abspath(one([for path, installed in local.installed : path if installed == each.key])), "local", "install"]
    command     = jsonencode({ dir = local.dir, binary = each.key })
  }
}

module "node_config" {
  source     = "../../modules/node-config"
  for_each   = local.places
  tier       = each.value.tier
  place      = { jurisdiction = each.value.jurisdiction, region = each.value.region, facility = each.value.facility }
  dirs       = { config = local.home[each.key], data = "${local.home[each.key]}/data", authority = "${local.dir}/pki" }
  uplink_url = local.uplink[each.key]
  enrolment  = each.value.tier != "edge" ? "${local.dir}/pki" : null
  clients = [
    for client in local.clients : { client_id = client.client_id, kid = client.kid, public_key = client.public_key, scope = client.scope }
    if each.value.tier == "regional" || (each.value.tier == "global" && client.global)
  ]
  listen = {
    https   = local.address[each.key][0]
    grpc    = each.value.tier == "edge" ? null : local.address[each.key][1]
    metrics = each.value.tier == "regional" ? local.address[each.key][2] : null
    mqtt    = each.value.tier == "edge" ? local.address[each.key][1] : null
  }
  devices = [for device in try(local.facilities[each.key].devices, []) : {
    id = device.id, kind = device.kind, bed = device.bed, profile = device.profile, address = device.address
  }]
  simulated_beds = try(local.facilities[each.key].beds, [])
  local_mesh     = true
}

module "global" {
  source     = "../../modules/local-process"
  for_each   = { for name, place in local.places : name => place if place.tier == "global" }
  name       = each.key
  dir        = local.dir
  binary     = local.binary[each.key]
  place      = each.value.place
  config     = module.node_config[each.key].toml
  depends_on = [terraform_data.program]
}

module "regional" {
  source     = "../../modules/local-process"
  for_each   = { for name, place in local.places : name => place if place.tier == "regional" }
  name       = each.key
  dir        = local.dir
  binary     = local.binary[each.key]
  place      = each.value.place
  config     = module.node_config[each.key].toml
  depends_on = [module.global]
}

module "edge" {
  source     = "../../modules/local-process"
  for_each   = { for name, place in local.places : name => place if place.tier == "edge" }
  name       = each.key
  dir        = local.dir
  binary     = local.binary[each.key]
  place      = each.value.place
  config     = module.node_config[each.key].toml
  depends_on = [module.regional]
}

module "devices" {
  source   = "../../modules/local-process"
  for_each = local.facilities
  name     = "devices-${each.key}"
  dir      = local.dir
  binary   = local.binary[each.key]
  kind     = "devices"
  place    = local.places[each.key].place
  devices  = [for device in each.value.devices : device.id]
  config = templatefile("${path.module}/devices.toml.tftpl", {
    place   = local.places[each.key]
    dir     = local.dir
    home    = local.home[each.key]
    mqtt    = local.address[each.key][1]
    devices = [for device in each.value.devices : device if device.kind != "external"]
  })
  depends_on = [module.edge]
}

locals {
  origin = { for name, place in local.places : name => "https://${local.address[name][0]}" }
  mesh = {
    ca     = "${local.dir}/pki/ca.pem"
    global = { api = "${local.origin["global"]}/api/v1", metrics = "${local.origin["global"]}/metrics" }
    regions = { for name, place in local.places : place.region => {
      jurisdiction = place.jurisdiction
      fhir         = "${local.origin[name]}/fhir"
      api          = "${local.origin[name]}/api/v1"
      grpc         = "https://${local.address[name][1]}"
      metrics      = "https://${local.address[name][2]}/metrics"
    } if place.tier == "regional" }
    facilities = [for name, place in local.places : {
      id      = place.facility
      region  = place.region
      mqtt    = local.address[name][1]
      modbus  = compact([for device in local.facilities[name].devices : device.listen])
      metrics = "${local.origin[name]}/metrics"
      devices = [for device in local.facilities[name].devices : {
        id = device.id, kind = device.kind, cert = "${local.home[name]}/devices/${device.id}.pem", key = "${local.home[name]}/devices/${device.id}.key"
      }]
    } if place.tier == "edge"]
    clients = { for client in local.clients : client.name => {
      client_id = client.client_id
      kid       = client.kid
      key       = "${local.dir}/clients/${client.name}.key"
      scope     = client.scope
      token_url = { for name, place in local.places : coalesce(place.region, "global") => "${local.origin[name]}/auth/token" if place.tier == "regional" || (place.tier == "global" && client.global) }
    } }
  }
}

# Where everything is, for `medmesh token` and for people: the same file as that of `medmesh up`.
resource "terraform_data" "describe" {
  triggers_replace = [jsonencode(local.mesh)]
  depends_on       = [terraform_data.program]

  provisioner "local-exec" {
    quiet       = true
    interpreter = [local.binary["global"], "local", "describe"]
    command     = jsonencode({ dir = local.dir, mesh = local.mesh })
  }
}
