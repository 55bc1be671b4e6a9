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

variable "facility_cidrs" {
  description = "Networks of the facilities, which reach the region by VPN or a line of their own: by name of the facility."
  type        = map(string)
  nullable    = false
}

variable "image_id" {
  description = "As in the module machine, which validates it."
  type        = string
  nullable    = false
}

variable "zone_id" {
  description = "The Route 53 zone of that domain: output of the module jurisdiction."
  type        = string
  nullable    = false
}

variable "authority_arn" {
  description = "The private certificate authority of the jurisdiction, by which clients of Kafka are known: output of the module jurisdiction."
  type        = string
  nullable    = false
}

variable "uplink_url" {
  description = "https://host:port of the global node."
  type        = string
  nullable    = false
}

variable "uplink_service" {
  description = "The service of the global node's private link: output service of the layer global-node."
  type        = string
  nullable    = false
}

variable "enrolment" {
  description = "The folder on the disk of node a of an authority of its own, as in the module region-nodes. None when left out."
  type        = string
  default     = null
}

variable "clients" {
  description = "Clients of the region's FHIR interface, as in the module region-nodes."
  type        = list(object({ client_id = string, kid = string, public_key = string, scope = string }))
  default     = []
  nullable    = false
}

variable "sizes" {
  description = "As in the module region."
  type = object({
    node       = optional(string, "m7i.large")
    postgres   = optional(string, "db.r7g.large")
    kafka      = optional(string, "kafka.m7g.large")
    scylla     = optional(string, "i4i.large")
    node_disk  = optional(number, 100)
    kafka_disk = optional(number, 500)
  })
  default  = {}
  nullable = false
}

variable "budget_usd" {
  description = "As in the module place, which validates it."
  type        = number
  nullable    = false
}

variable "alarm_email" {
  description = "As in the module place, which validates it."
  type        = string
  nullable    = false
}
