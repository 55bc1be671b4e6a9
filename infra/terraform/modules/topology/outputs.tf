# Of nothing but the file: what is of another type than a variable takes is known to no other output.
output "file" {
  description = "The file that the values are of."
  value       = var.file

  # guard: mistyped
  precondition {
    condition     = length(local.mistyped) == 0
    error_message = "Values of another type: ${join(", ", local.mistyped)}."
  }
}

output "regions" {
  description = "The regions that are there, with where their backups go and whose account holds them."
  value = {
    for name, region in var.regions : name => merge(region, {
      backup     = coalesce(region.backup, name)
      account_id = var.jurisdictions[region.jurisdiction].account_id
      domain     = var.jurisdictions[region.jurisdiction].domain
    }) if local.is_there[region.jurisdiction]
  }
}

output "facilities" {
  description = "The facilities that are there."
  value       = { for name, facility in var.facilities : name => facility if local.is_there[facility.jurisdiction] }
}

output "jurisdictions" {
  description = "The jurisdictions that are there, each with its regions, its account, its domain, and every cloud region where its law applies."
  value = {
    for name, one in var.jurisdictions : name => merge(one, {
      regions = sort([for region, of in var.regions : region if of.jurisdiction == name])
      lawful  = sort(local.lawful[name])
    }) if local.is_there[name]
  }
}

output "global" {
  description = "The global node."
  value       = var.global
}

output "places" {
  description = "Every node by a stable name: its place in the mesh, as certificates have it, and the first of its ports on one machine."
  value = merge(
    { global = { tier = "global", place = "global", jurisdiction = null, region = null, facility = null, port_base = var.global.port_base, beds = 0 } },
    { for name, region in var.regions : "regional-${name}" => {
      tier = "regional", place = "regional/${region.jurisdiction}/${name}", jurisdiction = region.jurisdiction, region = name, facility = null, port_base = region.port_base, beds = 0
    } if local.is_there[region.jurisdiction] },
    { for name, facility in var.facilities : "edge-${name}" => {
      tier = "edge", place = "edge/${facility.jurisdiction}/${facility.region}/${name}", jurisdiction = facility.jurisdiction, region = facility.region, facility = name, port_base = facility.port_base, beds = facility.beds
    } if local.is_there[facility.jurisdiction] },
  )

  # guard: unknown-key
  precondition {
    condition     = length(local.unknown_keys) == 0
    error_message = "Keys that the mesh does not know, which would be left out without a word: ${join(", ", local.unknown_keys)}."
  }
  # guard: port-shared
  precondition {
    condition     = length(local.shared_ports) == 0
    error_message = "port_base: two listeners on one port: ${join("; ", [for port, owners in local.shared_ports : "${port} of ${join(" and ", owners)}"])}."
  }
  # guard: port-range
  precondition {
    condition     = length(local.misplaced_ports) == 0
    error_message = "port_base: ports are whole numbers from 1024 to 32767, below those of outgoing connections; not so of: ${join(", ", local.misplaced_ports)}."
  }
}

output "rollout" {
  description = "Regions in the order in which a new binary comes to them: the canaries, then the others, pair after pair never together."
  value = concat(
    sort([for name, region in var.regions : name if region.canary && local.is_there[region.jurisdiction]]),
    sort([for name, region in var.regions : name if !region.canary && local.is_there[region.jurisdiction]]),
  )
}

locals {
  is_there = { for name in keys(var.jurisdictions) : name => length(var.only_jurisdictions) == 0 || contains(var.only_jurisdictions, name) }
}
