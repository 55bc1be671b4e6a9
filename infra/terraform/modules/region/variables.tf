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
  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr is a /16 network such as 10.20.0.0/16."
  }
}

variable "facility_cidrs" {
  description = "Networks of the facilities, which reach the region by VPN or a line of their own: by name of the facility."
  type        = map(string)
  nullable    = false
}

variable "zones" {
  description = "Letters of the three availability zones that are used."
  type        = list(string)
  default     = ["a", "b", "c"]
  nullable    = false
  validation {
    condition     = length(distinct(var.zones)) == 3 && length(var.zones) == 3
    error_message = "zones names three different zones."
  }
}

variable "image_id" {
  description = "The machine image: Debian 12 or newer with medmesh in /usr/local/bin and its systemd unit (infra/systemd)."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.image_id))
    error_message = "image_id is like ami-0123456789abcdef0."
  }
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
}

variable "enrolment" {
  description = "The folder on the region's node of an authority of its own, by which facilities join with a kit, as in the module node-config; a person puts it there. None when left out."
  type        = string
  default     = null
}

variable "clients" {
  description = "Clients of the region's FHIR interface, as in the module node-config."
  type        = list(object({ client_id = string, kid = string, public_key = string, scope = string }))
  default     = []
  nullable    = false
}

variable "sizes" {
  description = "Sizes: instance types of the node, PostgreSQL, Kafka and ScyllaDB; gigabytes of the node's volume and of each Kafka broker's."
  type = object({
    node       = optional(string, "m7g.large")
    postgres   = optional(string, "db.r7g.large")
    kafka      = optional(string, "kafka.m7g.large")
    scylla     = optional(string, "i4i.large")
    node_disk  = optional(number, 100)
    kafka_disk = optional(number, 500)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.sizes.node_disk >= 20 && var.sizes.kafka_disk >= 10
    error_message = "node_disk is at least 20 and kafka_disk at least 10 gigabytes."
  }
}

variable "retention_days" {
  description = "How long backups are kept, in days; logs are kept a year."
  type        = number
  default     = 35
  nullable    = false
}

variable "budget_usd" {
  description = "What the region may cost a month, in US dollars, before somebody is told."
  type        = number
  nullable    = false
  validation {
    condition     = var.budget_usd > 0
    error_message = "budget_usd is more than 0."
  }
}

variable "alarm_email" {
  description = "Who is told of alarms and of the budget."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.alarm_email))
    error_message = "alarm_email is an address of electronic mail."
  }
}
