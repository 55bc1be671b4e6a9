variable "region" {
  description = "The region that the facilities belong to."
  type        = string
  nullable    = false
}

variable "jurisdiction" {
  description = "Whose law applies: us, eu or apac."
  type        = string
  nullable    = false
  validation {
    condition     = contains(["us", "eu", "apac"], var.jurisdiction)
    error_message = "jurisdiction is us, eu or apac."
  }
}

variable "ingest_url" {
  description = "https://host:port that the facilities deliver to: output ingest of the module region."
  type        = string
  nullable    = false
  # guard: ingest-of-the-region
  validation {
    condition     = startswith(var.ingest_url, "https://ingest.${var.region}.")
    error_message = "RESIDENCY: facilities of ${var.region} would deliver to ${var.ingest_url}."
  }
}

variable "vpn_gateway_id" {
  description = "Where the facilities' lines end: output vpn_gateway_id of the module region."
  type        = string
  nullable    = false
}

variable "key_arn" {
  description = "The key of the region."
  type        = string
  nullable    = false
  # guard: key-of-the-region
  validation {
    condition     = startswith(var.key_arn, "arn:aws:kms:${var.region}:")
    error_message = "RESIDENCY: the key ${var.key_arn} is not one of ${var.region}."
  }
}

variable "facilities" {
  description = "Facilities by name: jurisdiction, the public address of their VPN gateway, their network, the name by which their own clients reach their node, the bounds of its disk, and their devices (as in the module node-config)."
  type = map(object({
    jurisdiction = string
    gateway      = string
    cidr         = string
    host         = string
    disk         = optional(object({ max_size = string, alarm_reserve = string, retention = string }), { max_size = "64GiB", alarm_reserve = "256MiB", retention = "30d" })
    devices = optional(list(object({
      id      = string, kind = string, model = optional(string), firmware = optional(string), bed = optional(string),
      profile = optional(string), address = optional(string), unit_id = optional(number, 1)
    })), [])
  }))
  nullable = false
  # guard: facility-of-the-jurisdiction
  validation {
    condition     = alltrue([for facility in values(var.facilities) : facility.jurisdiction == var.jurisdiction])
    error_message = "RESIDENCY: ${join("; ", [for name, facility in var.facilities : "facility ${name} (${facility.jurisdiction}) may not store data in ${var.region} (${var.jurisdiction})" if facility.jurisdiction != var.jurisdiction])}."
  }
  # guard: facility-gateway
  validation {
    condition     = alltrue([for facility in values(var.facilities) : can(regex("^([0-9]{1,3}\\.){3}[0-9]{1,3}$", facility.gateway)) && can(cidrhost("${facility.gateway}/32", 0))])
    error_message = "gateway is an IPv4 address such as 192.0.2.1; not so of: ${join(", ", [for name, facility in var.facilities : "${name} (${facility.gateway})" if !(can(regex("^([0-9]{1,3}\\.){3}[0-9]{1,3}$", facility.gateway)) && can(cidrhost("${facility.gateway}/32", 0)))])}."
  }
  # guard: facility-line
  validation {
    condition     = alltrue([for facility in values(var.facilities) : try(tonumber(split("/", facility.cidr)[1]) >= 8 && cidrsubnet(facility.cidr, 0, 0) == facility.cidr, false)])
    error_message = "cidr is a network such as 10.200.1.0/24, never the whole internet; not so of: ${join(", ", [for name, facility in var.facilities : "${name} (${facility.cidr})" if !try(tonumber(split("/", facility.cidr)[1]) >= 8 && cidrsubnet(facility.cidr, 0, 0) == facility.cidr, false)])}."
  }
  # guard: facility-lines-apart
  validation {
    condition = alltrue(flatten([for name, one in var.facilities : [for other, its in var.facilities :
      name == other || !try(cidrhost("${split("/", one.cidr)[0]}/${min(split("/", one.cidr)[1], split("/", its.cidr)[1])}", 0) == cidrhost("${split("/", its.cidr)[0]}/${min(split("/", one.cidr)[1], split("/", its.cidr)[1])}", 0), false)
    ]]))
    error_message = "cidr: two facilities have one network, or one within the other, so that what is for one would come to the other: ${join(", ", [
      for name, one in var.facilities : "${name} (${one.cidr})" if anytrue([for other, its in var.facilities :
        name != other && try(cidrhost("${split("/", one.cidr)[0]}/${min(split("/", one.cidr)[1], split("/", its.cidr)[1])}", 0) == cidrhost("${split("/", its.cidr)[0]}/${min(split("/", one.cidr)[1], split("/", its.cidr)[1])}", 0), false)
      ])
    ])}."
  }
}
