# What has to do with residency is validated by the module residency.

variable "region" {
  description = "The cloud region, which is the region's name in the mesh."
  type        = string
  nullable    = false
}

variable "jurisdiction" {
  description = "Whose law applies: us, eu or apac."
  type        = string
  nullable    = false
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
}

variable "pair" {
  description = "The other region of the active-active pair: where clients are sent while this one does not answer."
  type        = string
  nullable    = false
}

variable "backup_region" {
  description = "Where a second copy of every backup goes; none but the region's own when it is the region itself."
  type        = string
  nullable    = false
}

variable "key_arn" {
  description = "A single-Region key of the operator's own for data at rest; one is made when left out."
  type        = string
  default     = null
}

variable "cidr" {
  description = "The network of the region, a /16."
  type        = string
  nullable    = false
}

variable "pair_cidr" {
  description = "The network of its pair, a /16: where the other half of the ring of ScyllaDB is."
  type        = string
  nullable    = false
}

variable "facility_cidrs" {
  description = "Networks of the facilities, which reach the region by VPN or a line of their own: by name of the facility."
  type        = map(string)
  nullable    = false
}

variable "zones" {
  description = "Letters of the three availability zones that are used; the two nodes stand in the first two."
  type        = list(string)
  default     = ["a", "b", "c"]
  nullable    = false
}

variable "image_id" {
  description = "The machine image, as in the module machine; that of ScyllaDB's machines has ScyllaDB too. It is for the processor of both types in sizes."
  type        = string
  nullable    = false
}

variable "domain" {
  description = "The domain of the jurisdiction."
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
  # guard: uplink-url
  validation {
    condition     = can(regex("^https://[a-z0-9.-]+:[0-9]{1,5}$", var.uplink_url)) && try(tonumber(regex("[0-9]+$", var.uplink_url)) < 65536, false)
    error_message = "uplink_url is https://host:port, and not ${var.uplink_url}."
  }
}

variable "uplink_service" {
  description = "The service of the global node's private link: output service of the layer global-node."
  type        = string
  nullable    = false
}

variable "uplink_region" {
  description = "The cloud region where the global node stands."
  type        = string
  nullable    = false
}

variable "enrolment" {
  description = "As in the module region-nodes, which validates it."
  type        = string
  default     = null
}

variable "clients" {
  description = "As in the module region-nodes, which validates it."
  type        = list(object({ client_id = string, kid = string, public_key = string, scope = string }))
  default     = []
  nullable    = false
}

variable "sizes" {
  description = "Sizes: instance types of a node, PostgreSQL, Kafka and ScyllaDB; gigabytes of each node's disk and of each Kafka broker's."
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
  # guard: kafka-disk
  validation {
    condition     = var.sizes.kafka_disk >= 10
    error_message = "kafka_disk is at least 10 gigabytes."
  }
}

variable "retention_days" {
  description = "How long backups are kept, in days; logs are kept a year."
  type        = number
  default     = 35
  nullable    = false
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
