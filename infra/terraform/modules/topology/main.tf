# What the mesh consists of. Pure: no provider, no resource; everything else reads its outputs.
terraform {
  required_version = ">= 1.11, < 2.0"
}

locals {
  # The cloud's regions by whose law applies where they stand. Written out: a prefix would count London (eu-west-2) and
  # Zurich (eu-central-2) as the European Union, and Mumbai's neighbours as one law.
  lawful = {
    us = ["us-east-1", "us-east-2", "us-west-1", "us-west-2"]
    eu = ["eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-3"]
    apac = [
      "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
      "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4",
    ]
  }

  # A name as the mesh takes it in certificates, topics and paths (GLOSSARY.md: name).
  name_pattern = "^[a-z][a-z0-9-]{0,31}$"

  # A DNS name (RFC 1035: labels of at most 63 characters), to which "ingest.REGION." is put in front within 253.
  domain_pattern = "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$"
  longest_domain = 200

  # What no router of the internet takes (RFC 1918).
  private_network = "^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)"

  # Listeners of a regional node from its port_base on; those of an edge are HTTPS, MQTT and one a Modbus device.
  regional_ports = ["https", "grpc", "metrics"]
  max_beds       = 64

  # What may stand in the file of the mesh: the attributes that the variables have, whatever was written of them.
  known = {
    jurisdictions = try(keys(values(var.jurisdictions)[0]), [])
    global        = keys(var.global)
    regions       = try(keys(values(var.regions)[0]), [])
    facilities    = try(keys(values(var.facilities)[0]), [])
  }
  # One that is not there, or is no JSON, is an error: what was not looked at is not taken.
  written = jsondecode(var.file == null ? "{}" : file(var.file))
  unknown_keys = concat(
    [for section in keys(local.written) : section if !contains(concat(keys(local.known), ["only_jurisdictions"]), section)],
    [for key in try(keys(local.written.global), []) : "global.${key}" if !contains(local.known.global, key)],
    flatten([for section in ["jurisdictions", "regions", "facilities"] : [
      for name, one in try(local.written[section], {}) : [
        for key in try(keys(one), []) : "${section}.${name}.${key}" if !contains(local.known[section], key)
      ]
    ]]),
  )

  # Terraform says of a value of another type that a number is required, and not where.
  types = merge(
    { for key in ["account_id", "backup", "cidr", "domain", "jurisdiction", "key_arn", "pair", "region"] : key => "a text" },
    { for key in ["beds", "port_base"] : key => "a number" },
    { canary = "true or false" },
  )
  fields = concat(
    [for key, value in try({ for key, value in local.written.global : key => value }, {}) : { at = "global.${key}", key = key, value = value }],
    flatten([for section in ["jurisdictions", "regions", "facilities"] : [
      for name in try(keys(local.written[section]), []) : [
        for key in try(keys(local.written[section][name]), []) : { at = "${section}.${name}.${key}", key = key, value = local.written[section][name][key] }
      ]
    ]]),
  )
  mistyped = concat(
    [for section in ["jurisdictions", "global", "regions", "facilities"] : "${section} is no object" if !can(keys(try(local.written[section], {})))],
    flatten([for section in ["jurisdictions", "regions", "facilities"] : [
      for name in try(keys(local.written[section]), []) : "${section}.${name} is no object" if !can(keys(local.written[section][name]))
    ]]),
    [for field in local.fields : "${field.at} is not ${local.types[field.key]}" if !lookup({
      "a text"   = can(tostring(field.value))
      "a number" = can(tonumber(field.value))
    }, lookup(local.types, field.key, "none"), can(tobool(field.value)) || !contains(keys(local.types), field.key))],
  )

  listeners = concat(
    [for offset in range(2) : { port = var.global.port_base + offset, owner = "global" }],
    flatten([for name, region in var.regions : [
      for offset in range(length(local.regional_ports)) : { port = region.port_base + offset, owner = "region ${name}" }
    ]]),
    # HTTPS, MQTT, the monitors but the last (which is on a serial line), the probe of the cold store.
    flatten([for name, facility in var.facilities : [
      for offset in range(2 + facility.beds) : { port = facility.port_base + offset, owner = "facility ${name}" }
    ]]),
  )
  owners_by_port = { for listener in local.listeners : tostring(listener.port) => listener.owner... }
  shared_ports   = { for port, owners in local.owners_by_port : port => owners if length(owners) > 1 }
  misplaced_ports = distinct([
    for listener in local.listeners : listener.owner
    if !(listener.port >= 1024 && listener.port < 32768 && floor(listener.port) == listener.port)
  ])
}
