variable "name" {
  description = "What the machine is called in its network, such as node-a."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,19}$", var.name))
    error_message = "name has 1 to 20 characters of a-z, 0-9 and '-', and begins with a letter."
  }
}

variable "tier" {
  description = "What runs there: regional or global."
  type        = string
  nullable    = false
  validation {
    condition     = contains(["regional", "global"], var.tier)
    error_message = "tier is regional or global."
  }
}

variable "region" {
  description = "The cloud region."
  type        = string
  nullable    = false
}

variable "account_id" {
  description = "The account that holds it."
  type        = string
  nullable    = false
}

variable "zone" {
  description = "The availability zone of the machine and of its disk, such as eu-central-1a."
  type        = string
  nullable    = false
  # guard: zone-here
  validation {
    condition     = can(regex("^${var.region}[a-z]$", var.zone))
    error_message = "RESIDENCY: the machine ${var.name} of ${var.region} would stand in ${var.zone}."
  }
}

variable "subnet_id" {
  description = "The private subnet of that zone."
  type        = string
  nullable    = false
}

variable "security_group_ids" {
  description = "Groups of the machine: who reaches it."
  type        = list(string)
  nullable    = false
}

variable "target_group_arns" {
  description = "Balancers' groups that the machine is in."
  type        = list(string)
  nullable    = false
}

variable "config" {
  description = "The node's configuration (TOML)."
  type        = string
  nullable    = false
}

variable "ports" {
  description = "ready: where the balancer asks in the clear whether the node can serve. asked: the node's own port that tells it (HTTPS, /ready)."
  type        = object({ ready = number, asked = number })
  nullable    = false
}

variable "image_id" {
  description = "The machine image: Debian 12 or newer with medmesh in /usr/local/bin and its systemd unit (infra/systemd), curl and the AWS command line."
  type        = string
  nullable    = false
  # guard: image
  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.image_id))
    error_message = "image_id is like ami-0123456789abcdef0."
  }
}

variable "instance_type" {
  description = "Type of the machine."
  type        = string
  nullable    = false
}

variable "disk_gb" {
  description = "Size of the disk that outlives the machine, in gigabytes."
  type        = number
  nullable    = false
  # guard: disk-size
  validation {
    condition     = var.disk_gb >= 20 && floor(var.disk_gb) == var.disk_gb
    error_message = "disk_gb is a whole number from 20 on."
  }
}

variable "key_arn" {
  description = "The key of data at rest."
  type        = string
  nullable    = false
}

variable "metrics" {
  description = "Where the machine writes what the node says of itself at ports.asked (/metrics, without a token): output metrics of the module place. Nowhere when left out."
  type        = object({ arn = string, endpoint = string })
  default     = null
}

variable "backups" {
  description = "Where backups of the disk go: output backups of the module place."
  type        = object({ plan_id = string, role_arn = string })
  nullable    = false
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  nullable    = false
}
