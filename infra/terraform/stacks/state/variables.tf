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

variable "account_id" {
  description = "The account of the global node, for its bucket; that of the region's jurisdiction when left out."
  type        = string
  default     = null
}

variable "region" {
  description = "The region of this bucket: one of regions, or that of the global node."
  type        = string
  nullable    = false
}
