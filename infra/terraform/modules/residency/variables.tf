# What a region may refer to. The module topology has seen all regions together; this sees one alone, beside its resources.

variable "region" {
  description = "The cloud region, which is the region's name in the mesh."
  type        = string
  nullable    = false
  # guard: region-lawful
  validation {
    condition     = contains(var.lawful, var.region)
    error_message = "RESIDENCY: ${var.region} does not lie in the jurisdiction ${var.jurisdiction}."
  }
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

variable "lawful" {
  description = "Every cloud region where the law of the jurisdiction applies: output jurisdictions of the module topology."
  type        = set(string)
  nullable    = false
}

variable "account_id" {
  description = "The account of the jurisdiction."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id has 12 digits."
  }
}

variable "pair" {
  description = "The other region of the active-active pair: where clients are sent while this one does not answer."
  type        = string
  nullable    = false
  # guard: pair-lawful
  validation {
    condition     = contains(var.lawful, var.pair) && var.pair != var.region
    error_message = "RESIDENCY: ${var.region} (${var.jurisdiction}) may not fail over to ${var.pair}."
  }
}

variable "backup_region" {
  description = "Where a second copy of every backup goes; none but the region's own when it is the region itself."
  type        = string
  nullable    = false
  # guard: backup-lawful
  validation {
    condition     = contains(var.lawful, var.backup_region)
    error_message = "RESIDENCY: the backups of ${var.region} (${var.jurisdiction}) may not go to ${var.backup_region}."
  }
}

variable "key_arn" {
  description = "A single-Region key of the operator's own for data at rest; one is made when left out."
  type        = string
  default     = null
  # guard: key-here
  validation {
    condition     = try(startswith(var.key_arn, "arn:aws:kms:${var.region}:${var.account_id}:key/"), var.key_arn == null)
    error_message = "RESIDENCY: the data of ${var.region} would be readable with a key of another region or account: ${var.key_arn == null ? "" : var.key_arn}."
  }
  # guard: key-single
  validation {
    condition     = !can(regex("key/mrk-", var.key_arn))
    error_message = "RESIDENCY: a multi-Region key can be copied to another region."
  }
}

variable "facility_cidrs" {
  description = "Networks of the facilities, which reach the region by VPN or a line of their own: by name of the facility."
  type        = map(string)
  nullable    = false
  # guard: facility-network
  validation {
    condition     = alltrue([for cidr in values(var.facility_cidrs) : try(tonumber(split("/", cidr)[1]) >= 8 && cidrsubnet(cidr, 0, 0) == cidr, false)])
    error_message = "facility_cidrs: a facility's network is one such as 10.200.1.0/24, never the whole internet; not so of: ${join(", ", [for name, cidr in var.facility_cidrs : name if !try(tonumber(split("/", cidr)[1]) >= 8 && cidrsubnet(cidr, 0, 0) == cidr, false)])}."
  }
  # guard: facilities-apart
  validation {
    condition = alltrue(flatten([for name, cidr in var.facility_cidrs : [for other, its in var.facility_cidrs :
      name == other || !try(cidrhost("${split("/", cidr)[0]}/${min(split("/", cidr)[1], split("/", its)[1])}", 0) == cidrhost("${split("/", its)[0]}/${min(split("/", cidr)[1], split("/", its)[1])}", 0), false)
    ]]))
    error_message = "facility_cidrs: two facilities have one network, or one within the other, so that what is for one would come to the other: ${join(", ", [
      for name, cidr in var.facility_cidrs : "${name} (${cidr})" if anytrue([for other, its in var.facility_cidrs :
        name != other && try(cidrhost("${split("/", cidr)[0]}/${min(split("/", cidr)[1], split("/", its)[1])}", 0) == cidrhost("${split("/", its)[0]}/${min(split("/", cidr)[1], split("/", its)[1])}", 0), false)
      ])
    ])}."
  }
  # guard: facility-network-apart
  validation {
    condition = !anytrue(flatten([for cidr in values(var.facility_cidrs) : [for own in [var.cidr, var.pair_cidr] : try(cidrhost("${split("/", cidr)[0]}/${min(split("/", cidr)[1], split("/", own)[1])}", 0) == cidrhost("${split("/", own)[0]}/${min(split("/", cidr)[1], split("/", own)[1])}", 0), false)]]))
    error_message = "facility_cidrs: a facility's network is none of the region's own (${var.cidr}) or of its pair's (${var.pair_cidr}): what is let in from there would be anybody; so of: ${join(", ", [
      for name, cidr in var.facility_cidrs : name if anytrue([for own in [var.cidr, var.pair_cidr] : try(cidrhost("${split("/", cidr)[0]}/${min(split("/", cidr)[1], split("/", own)[1])}", 0) == cidrhost("${split("/", own)[0]}/${min(split("/", cidr)[1], split("/", own)[1])}", 0), false)])
    ])}."
  }
}

variable "authority_arn" {
  description = "The private certificate authority of the jurisdiction, by which clients of Kafka are known: output of the module jurisdiction."
  type        = string
  nullable    = false
  # guard: authority-lawful
  validation {
    condition     = try(contains(var.lawful, split(":", var.authority_arn)[3]) && split(":", var.authority_arn)[4] == var.account_id, false)
    error_message = "RESIDENCY: the authority of ${var.region} is in another jurisdiction: ${var.authority_arn}."
  }
}

variable "retention_days" {
  description = "How long backups are kept, in days; logs are kept a year."
  type        = number
  default     = 35
  nullable    = false
  # guard: retention
  validation {
    condition     = var.retention_days >= 35 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days: backups are kept for a whole number of days, at least 35, and not ${var.retention_days}."
  }
}

variable "uplink_region" {
  description = "The cloud region where the global node stands."
  type        = string
  nullable    = false
}

variable "uplink_service" {
  description = "The service of the global node's private link: output service of the layer global-node."
  type        = string
  nullable    = false
  # guard: uplink-of-the-global-node
  validation {
    condition     = can(regex("^com\\.amazonaws\\.vpce\\.${var.uplink_region}\\.vpce-svc-[0-9a-f]{8,17}$", var.uplink_service))
    error_message = "RESIDENCY: ${var.region} would deliver to ${var.uplink_service}, which is no service in ${var.uplink_region}, where the global node stands."
  }
}

variable "cidr" {
  description = "The network of the region."
  type        = string
  nullable    = false
}

variable "pair_cidr" {
  description = "The network of its pair."
  type        = string
  nullable    = false
  # guard: pair-network
  validation {
    condition     = try(cidrsubnet(var.pair_cidr, 0, 0) == var.pair_cidr && endswith(var.pair_cidr, "/16") && var.pair_cidr != var.cidr, false)
    error_message = "The pair of ${var.region} has a /16 network of its own, such as 10.21.0.0/16, and not ${var.pair_cidr}."
  }
}
