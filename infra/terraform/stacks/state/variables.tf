variable "jurisdictions" {
  description = "As in the module topology, which validates it."
  type        = map(object({ account_id = string, domain = string }))
  nullable    = false
}

variable "global" {
  description = "As in the module topology, which validates it."
  type        = object({ region = string, cidr = string, port_base = number })
  nullable    = false
}

variable "regions" {
  description = "As in the module topology, which validates it."
  type = map(object({
    jurisdiction = string
    pair         = string
    cidr         = string
    port_base    = number
    backup       = optional(string)
    key_arn      = optional(string)
    canary       = optional(bool, false)
  }))
  nullable = false
}

variable "facilities" {
  description = "As in the module topology, which validates it."
  type        = map(object({ jurisdiction = string, region = string, port_base = number, beds = optional(number, 2) }))
  nullable    = false
}

variable "without_account" {
  description = "Plan without an account, as the tests do: nothing is asked of the cloud."
  type        = bool
  default     = false
  nullable    = false
}

variable "account_id" {
  description = "The account of the global node, for its bucket; that of the region's jurisdiction when left out."
  type        = string
  default     = null
  validation {
    condition     = var.account_id == null ? true : can(regex("^[0-9]{12}$", var.account_id)) && !contains(values(var.jurisdictions)[*].account_id, var.account_id)
    error_message = "RESIDENCY: account_id has 12 digits and is the account of no jurisdiction, whose states are where its regions are: ${var.account_id == null ? "" : var.account_id}."
  }
}

variable "region" {
  description = "The region of this bucket: one of regions, or that of the global node."
  type        = string
  nullable    = false
  validation {
    condition     = var.account_id == null ? contains(keys(var.regions), var.region) : var.region == var.global.region
    error_message = "region: ${var.region} is not in regions, or with account_id, not where the global node stands."
  }
}
