# The guards of residency. A line `# guard: NAME` opens each; the suite takes it out and sees its test fail.
# What is null in the file comes as "" or 0, so that the guard that misses it says where.

variable "jurisdictions" {
  description = "Whose laws the mesh knows, by name: the account that holds everything of a jurisdiction, and the domain under which its regions are found."
  type = map(object({
    account_id = optional(string, "")
    domain     = optional(string, "")
  }))
  nullable = false

  # guard: known-jurisdiction
  validation {
    condition     = length(setsubtract(keys(var.jurisdictions), keys(local.lawful))) == 0
    error_message = "The mesh knows the jurisdictions ${join(", ", keys(local.lawful))}; unknown: ${join(", ", [for name in setsubtract(keys(var.jurisdictions), keys(local.lawful)) : jsonencode(name)])}."
  }
  # guard: account-apart
  validation {
    condition     = length(distinct(values(var.jurisdictions)[*].account_id)) == length(var.jurisdictions)
    error_message = "RESIDENCY: two jurisdictions share an account (account_id), so that one administrator could move data between them: ${join(", ", [for name, one in var.jurisdictions : name if length([for other in values(var.jurisdictions) : other if other.account_id == one.account_id]) > 1])}."
  }
  # guard: account-number
  validation {
    condition     = alltrue([for one in values(var.jurisdictions) : can(regex("^[0-9]{12}$", one.account_id))])
    error_message = "account_id has 12 digits; not so of: ${join(", ", [for name, one in var.jurisdictions : name if !can(regex("^[0-9]{12}$", one.account_id))])}."
  }
  # guard: domain
  validation {
    condition     = alltrue([for one in values(var.jurisdictions) : can(regex(local.domain_pattern, one.domain)) && length(one.domain) <= local.longest_domain])
    error_message = "domain is a DNS name such as eu.mesh.example.org; not so of: ${join(", ", [for name, one in var.jurisdictions : name if !(can(regex(local.domain_pattern, one.domain)) && length(one.domain) <= local.longest_domain)])}."
  }
  # guard: domain-apart
  validation {
    condition     = length(distinct(values(var.jurisdictions)[*].domain)) == length(var.jurisdictions)
    error_message = "RESIDENCY: two jurisdictions share a domain, so that clients of one would be led to the other: ${join(", ", [for name, one in var.jurisdictions : "${name} (${one.domain})" if length([for other in values(var.jurisdictions) : other if other.domain == one.domain]) > 1])}."
  }
  # guard: domain-below
  validation {
    condition = alltrue([for one in values(var.jurisdictions) : alltrue([for other in values(var.jurisdictions) : !endswith(one.domain, ".${other.domain}")])])
    error_message = "RESIDENCY: the domain of a jurisdiction lies in another one's, who would answer for it: ${join(", ", [
      for name, one in var.jurisdictions : "${name} (${one.domain})" if anytrue([for other in values(var.jurisdictions) : endswith(one.domain, ".${other.domain}")])
    ])}."
  }
}

variable "global" {
  description = "The global node, which holds no patient-level data: the cloud region where it stands, its network, and the first of its two ports on one machine (HTTPS, gRPC)."
  type = object({
    region    = optional(string, "")
    cidr      = optional(string, "")
    port_base = optional(number, 0)
  })
  nullable = false

  # guard: global-region
  validation {
    condition     = contains(flatten(values(local.lawful)), var.global.region)
    error_message = "global.region: ${var.global.region} is no cloud region that the mesh knows."
  }
}

variable "regions" {
  description = <<-EOT
    Regions by the name of their cloud region. jurisdiction: whose law applies. pair: the other region of the
    active-active pair. cidr: its network. port_base: the first of its three ports on one machine (HTTPS, gRPC,
    metrics). backup: where copies of its data go, itself when left out. key_arn: a key of the operator's own for data
    at rest; one is made when left out. canary: a new binary runs here first.
  EOT
  type = map(object({
    jurisdiction = optional(string, "")
    pair         = optional(string, "")
    cidr         = optional(string, "")
    port_base    = optional(number, 0)
    backup       = optional(string)
    key_arn      = optional(string)
    canary       = optional(bool, false)
  }))
  nullable = false

  # guard: region-jurisdiction
  validation {
    condition     = alltrue([for region in values(var.regions) : contains(keys(var.jurisdictions), region.jurisdiction)])
    error_message = "Regions of a jurisdiction that is not in jurisdictions: ${join(", ", [for name, region in var.regions : "${name} (${region.jurisdiction})" if !contains(keys(var.jurisdictions), region.jurisdiction)])}."
  }
  # guard: region-elsewhere
  validation {
    condition = alltrue([for name, region in var.regions : contains(lookup(local.lawful, region.jurisdiction, []), name)])
    error_message = "RESIDENCY: ${join("; ", [
      for name, region in var.regions : "the region ${jsonencode(name)} is declared ${region.jurisdiction}, but does not lie there"
      if !contains(lookup(local.lawful, region.jurisdiction, []), name)
    ])}."
  }
  # guard: pair-mutual
  validation {
    condition = alltrue([for name, region in var.regions : try(var.regions[region.pair].pair == name && region.pair != name, false)])
    error_message = "A pair is of two regions that name each other; broken: ${join(", ", [
      for name, region in var.regions : "${name} -> ${region.pair}"
      if !try(var.regions[region.pair].pair == name && region.pair != name, false)
    ])}."
  }
  # guard: pair-across
  validation {
    condition = alltrue([for region in values(var.regions) : try(var.regions[region.pair].jurisdiction == region.jurisdiction, true)])
    error_message = "RESIDENCY: ${join("; ", [
      for name, region in var.regions : "${name} (${region.jurisdiction}) is paired with ${region.pair} (${try(var.regions[region.pair].jurisdiction, "unknown")})"
      if try(var.regions[region.pair].jurisdiction != region.jurisdiction, false)
    ])}: a pair across jurisdictions would copy data to another law."
  }
  # guard: backup-elsewhere
  validation {
    condition = alltrue([
      for region in values(var.regions) : try(contains(lookup(local.lawful, region.jurisdiction, []), region.backup), true)
    ])
    error_message = "RESIDENCY: ${join("; ", [
      for name, region in var.regions : "the backups of ${name} (${region.jurisdiction}) may not go to ${region.backup}"
      if !try(contains(lookup(local.lawful, region.jurisdiction, []), region.backup), true)
    ])}."
  }
  # guard: key-form
  validation {
    condition     = alltrue([for region in values(var.regions) : region.key_arn == null || can(regex("^arn:aws:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", region.key_arn))])
    error_message = "key_arn is arn:aws:kms:REGION:ACCOUNT:key/ID; not so of: ${join(", ", [for name, region in var.regions : name if region.key_arn != null && !can(regex("^arn:aws:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", region.key_arn))])}."
  }
  # guard: key-elsewhere
  validation {
    condition = alltrue([for name, region in var.regions : try(split(":", region.key_arn)[3] == name, true)])
    error_message = "RESIDENCY: ${join("; ", [
      for name, region in var.regions : "the data of ${name} would be readable with a key in ${split(":", region.key_arn)[3]}"
      if try(split(":", region.key_arn)[3] != name, false)
    ])}."
  }
  # guard: key-multi-region
  validation {
    condition     = alltrue([for region in values(var.regions) : !can(regex("key/mrk-", region.key_arn))])
    error_message = "RESIDENCY: a multi-Region key can be copied to another region, so it keeps nothing in place: ${join(", ", [for name, region in var.regions : name if can(regex("key/mrk-", region.key_arn))])}."
  }
  # guard: key-shared
  validation {
    condition = length(distinct([for region in values(var.regions) : try(split("/", region.key_arn)[1], region.key_arn) if region.key_arn != null])) == length([for region in values(var.regions) : region if region.key_arn != null])
    error_message = "RESIDENCY: regions share a key: ${join("; ", distinct([
      for key in [for region in values(var.regions) : try(split("/", region.key_arn)[1], region.key_arn) if region.key_arn != null] :
      "${join(" and ", [for name, region in var.regions : name if try(split("/", region.key_arn)[1] == key, false)])} (${key})"
      if length([for region in values(var.regions) : region if try(split("/", region.key_arn)[1] == key, false)]) > 1
    ]))}."
  }
  # guard: key-account
  validation {
    condition = alltrue([for region in values(var.regions) : try(split(":", region.key_arn)[4] == var.jurisdictions[region.jurisdiction].account_id, true)])
    error_message = "RESIDENCY: the key of a region is in another jurisdiction's account: ${join(", ", [
      for name, region in var.regions : name
      if try(split(":", region.key_arn)[4] != var.jurisdictions[region.jurisdiction].account_id, false)
    ])}."
  }
  # guard: network-shared
  validation {
    condition = length(distinct(concat([var.global.cidr], values(var.regions)[*].cidr))) == length(var.regions) + 1
    error_message = "Two regions, or a region and the global node, have the same network (cidr): ${join(", ", [
      for name, region in var.regions : "${name} (${region.cidr})"
      if length([for other in concat([var.global.cidr], values(var.regions)[*].cidr) : other if other == region.cidr]) > 1
    ])}."
  }
  # guard: network-form
  validation {
    condition = alltrue([for cidr in concat([var.global.cidr], values(var.regions)[*].cidr) : try(tonumber(split("/", cidr)[1]) == 16 && cidrsubnet(cidr, 0, 0) == cidr, false)])
    error_message = "cidr is a /16 network such as 10.20.0.0/16; not so of: ${join(", ", concat(
      [for cidr in [var.global.cidr] : "global (${cidr})" if !try(tonumber(split("/", cidr)[1]) == 16 && cidrsubnet(cidr, 0, 0) == cidr, false)],
      [for name, region in var.regions : "${name} (${region.cidr})" if !try(tonumber(split("/", region.cidr)[1]) == 16 && cidrsubnet(region.cidr, 0, 0) == region.cidr, false)],
    ))}."
  }
  # guard: network-private
  validation {
    condition = alltrue([for cidr in concat([var.global.cidr], values(var.regions)[*].cidr) : can(regex(local.private_network, cidr))])
    error_message = "cidr is a private network (RFC 1918: within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16); not so of: ${join(", ", concat(
      [for cidr in [var.global.cidr] : "global (${cidr})" if !can(regex(local.private_network, cidr))],
      [for name, region in var.regions : "${name} (${region.cidr})" if !can(regex(local.private_network, region.cidr))],
    ))}."
  }
}

variable "facilities" {
  description = "Facilities by name. jurisdiction: whose law applies. region: the region that their data goes to. port_base: the first of their ports on one machine (HTTPS, MQTT, then one a Modbus device). beds: beds with a monitor each, of simulated facilities."
  type = map(object({
    jurisdiction = optional(string, "")
    region       = optional(string, "")
    port_base    = optional(number, 0)
    beds         = optional(number, 2)
  }))
  nullable = false

  # guard: facility-name
  validation {
    condition     = alltrue([for name in keys(var.facilities) : can(regex(local.name_pattern, name))])
    error_message = "A facility's name has 1 to 32 characters of a-z, 0-9 and '-', and begins with a letter; not so of: ${join(", ", [for name in keys(var.facilities) : jsonencode(name) if !can(regex(local.name_pattern, name))])}."
  }
  # guard: facility-region
  validation {
    condition     = alltrue([for facility in values(var.facilities) : contains(keys(var.regions), facility.region)])
    error_message = "Facilities of a region that is not in regions: ${join(", ", [for name, facility in var.facilities : "${name} -> ${facility.region}" if !contains(keys(var.regions), facility.region)])}."
  }
  # guard: facility-elsewhere
  validation {
    condition = alltrue([for facility in values(var.facilities) : try(var.regions[facility.region].jurisdiction == facility.jurisdiction, true)])
    error_message = "RESIDENCY: ${join("; ", [
      for name, facility in var.facilities : "facility ${name} (${facility.jurisdiction}) may not store data in ${facility.region} (${var.regions[facility.region].jurisdiction})"
      if try(var.regions[facility.region].jurisdiction != facility.jurisdiction, false)
    ])}."
  }
  # guard: facility-beds
  validation {
    condition     = alltrue([for facility in values(var.facilities) : facility.beds >= 1 && facility.beds <= local.max_beds && floor(facility.beds) == facility.beds])
    error_message = "beds is a whole number from 1 to ${local.max_beds}; not so of: ${join(", ", [for name, facility in var.facilities : name if !(facility.beds >= 1 && facility.beds <= local.max_beds && floor(facility.beds) == facility.beds)])}."
  }
}

variable "only_jurisdictions" {
  description = "The jurisdictions that are there now; all of them when empty. With it a mesh grows one jurisdiction at a time from one file."
  type        = set(string)
  default     = []
  nullable    = false

  # guard: only-known
  validation {
    condition     = length(setsubtract(var.only_jurisdictions, keys(var.jurisdictions))) == 0
    error_message = "only_jurisdictions names what is not in jurisdictions: ${join(", ", [for name in setsubtract(var.only_jurisdictions, keys(var.jurisdictions)) : name == null ? "null" : name])}."
  }
}

variable "file" {
  description = "The file (JSON) that the values are of, looked at for keys that no variable knows: Terraform leaves those out without a word, and a mistyped key_arn or backup would go unnoticed. Not looked at when left out."
  type        = string
  default     = null
}

variable "layer" {
  description = "What the caller's state is of, where there is one for each region or jurisdiction: the region, the jurisdiction, facilities of the region, and the account of the global node where it is its bucket's."
  type = object({
    region       = optional(string)
    jurisdiction = optional(string)
    facilities   = optional(set(string), [])
    account_id   = optional(string)
  })
  default  = {}
  nullable = false

  # guard: layer-region
  validation {
    condition     = var.layer.region == null || var.layer.account_id != null ? true : contains(keys(var.regions), var.layer.region)
    error_message = "region: ${var.layer.region == null ? "" : var.layer.region} is not in regions."
  }
  # guard: layer-jurisdiction
  validation {
    condition     = var.layer.jurisdiction == null || try(var.regions[var.layer.region].jurisdiction == var.layer.jurisdiction, false)
    error_message = "RESIDENCY: region: ${var.layer.region == null ? "" : var.layer.region} is no region of the jurisdiction ${var.layer.jurisdiction == null ? "" : var.layer.jurisdiction}."
  }
  # guard: layer-facilities
  validation {
    condition     = alltrue([for name in var.layer.facilities : try(var.facilities[name].region == var.layer.region, false)])
    error_message = "RESIDENCY: no facilities of ${var.layer.region == null ? "" : var.layer.region} are: ${join(", ", [for name in var.layer.facilities : name if !try(var.facilities[name].region == var.layer.region, false)])}."
  }
  # guard: layer-account
  validation {
    condition     = var.layer.account_id == null ? true : can(regex("^[0-9]{12}$", var.layer.account_id)) && !contains(values(var.jurisdictions)[*].account_id, var.layer.account_id)
    error_message = "RESIDENCY: account_id has 12 digits and is the account of no jurisdiction, whose states are where its regions are: ${var.layer.account_id == null ? "" : var.layer.account_id}."
  }
  # guard: layer-global
  validation {
    condition     = var.layer.account_id == null || var.layer.region == var.global.region
    error_message = "region: the global node stands in ${var.global.region}, and its bucket with it."
  }
}
