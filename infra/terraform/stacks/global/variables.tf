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

variable "organisation_account_id" {
  description = "The account of the organisation."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.organisation_account_id))
    error_message = "organisation_account_id has 12 digits."
  }
}

variable "parent_id" {
  description = "As in the module global."
  type        = string
  nullable    = false
}

variable "global_account_id" {
  description = "As in the module global."
  type        = string
  nullable    = false
}
