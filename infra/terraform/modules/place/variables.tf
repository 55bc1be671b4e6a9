variable "region" {
  description = "The cloud region."
  type        = string
  nullable    = false
}

variable "account_id" {
  description = "The account that holds it."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id has 12 digits."
  }
}

variable "cidr" {
  description = "The network, a /16."
  type        = string
  nullable    = false
  # guard: network-form
  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr is a /16 network such as 10.20.0.0/16."
  }
}

variable "zones" {
  description = "Letters of the three availability zones that are used."
  type        = list(string)
  default     = ["a", "b", "c"]
  nullable    = false
  # guard: zones-three
  validation {
    condition     = length(distinct(var.zones)) == 3 && length(var.zones) == 3 && alltrue([for zone in var.zones : can(regex("^[a-z]$", zone))])
    error_message = "zones names three different zones, each by its letter."
  }
}

variable "key_arn" {
  description = "A single-Region key of the operator's own for data at rest; one is made when left out."
  type        = string
  default     = null
}

variable "backup_region" {
  description = "Where a second copy of every backup goes, to the vault medmesh there; none but the region's own when it is the region itself."
  type        = string
  nullable    = false
}

variable "retention_days" {
  description = "How long backups are kept, in days; logs are kept a year."
  type        = number
  default     = 35
  nullable    = false
}

variable "budget_usd" {
  description = "What it may cost a month, in US dollars, before somebody is told."
  type        = number
  nullable    = false
  # guard: budget
  validation {
    condition     = var.budget_usd > 0
    error_message = "budget_usd is more than 0."
  }
}

variable "alarm_email" {
  description = "Who is told of alarms and of the budget."
  type        = string
  nullable    = false
  # guard: alarm-address
  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.alarm_email))
    error_message = "alarm_email is an address of electronic mail."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  nullable    = false
}
