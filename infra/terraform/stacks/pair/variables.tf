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
  # The provider asks for this variable, so that nothing at all is made where it is refused.
  validation {
    condition     = !(var.without_account && terraform.applying)
    error_message = "without_account is for plans alone: with it nobody looks whether this is the account of the layer. Apply without it."
  }
}

variable "region" {
  description = "That of the two regions whose name comes first in the alphabet: a pair has one way between its regions, and one state."
  type        = string
  nullable    = false
  validation {
    condition     = try(sort([var.region, var.regions[var.region].pair])[0] == var.region, true)
    error_message = "region: a pair's way is made once, from ${try(var.regions[var.region].pair, "")}."
  }
}

variable "networks" {
  description = "The networks of the two regions, by region: output region of the layer region (network)."
  type        = map(object({ vpc_id = string, route_table_id = string }))
  nullable    = false
  validation {
    condition     = try(sort(keys(var.networks)) == sort([var.region, var.regions[var.region].pair]), true)
    error_message = "networks names ${var.region} and its pair, and no others: ${join(", ", keys(var.networks))}."
  }
}
