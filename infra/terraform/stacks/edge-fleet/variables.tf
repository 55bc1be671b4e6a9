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
  description = "The region of this state, one of regions."
  type        = string
  nullable    = false
}

variable "ingest_url" {
  description = "Output ingest of the layer region."
  type        = string
  nullable    = false
}

variable "vpn_gateway_id" {
  description = "Output vpn_gateway_id of the layer region."
  type        = string
  nullable    = false
}

variable "key_arn" {
  description = "Output key_arn of the layer region."
  type        = string
  nullable    = false
}

variable "lines" {
  description = "Facilities of the region by name: the public address of their VPN gateway, their network, the name of their node, the bounds of its disk, and their devices."
  type = map(object({
    gateway = string
    cidr    = string
    host    = string
    disk    = optional(object({ max_size = string, alarm_reserve = string, retention = string }), { max_size = "64GiB", alarm_reserve = "256MiB", retention = "30d" })
    devices = optional(list(object({
      id      = string, kind = string, model = optional(string), firmware = optional(string), bed = optional(string),
      profile = optional(string), address = optional(string), unit_id = optional(number, 1)
    })), [])
  }))
  nullable = false
}
