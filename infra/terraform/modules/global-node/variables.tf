variable "region" {
  description = "The cloud region where the global node stands."
  type        = string
  nullable    = false
}

variable "account_id" {
  description = "The account of the global node: none of a jurisdiction."
  type        = string
  nullable    = false
  # guard: account-of-no-jurisdiction
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id)) && !contains(var.accounts, var.account_id)
    error_message = "RESIDENCY: account_id has 12 digits and is the account of no jurisdiction, whose administrators would otherwise stand over all of them: ${var.account_id}."
  }
}

variable "accounts" {
  description = "The accounts of the jurisdictions, whose regions may link to the global node."
  type        = set(string)
  nullable    = false
  # guard: links-of-the-mesh
  validation {
    condition     = length(var.accounts) > 0 && alltrue([for account in var.accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "accounts are those of the jurisdictions, of 12 digits each: a service that names none, or everybody (*), is no private one."
  }
}

variable "regions" {
  description = "The mesh's regions, from which it can be linked to."
  type        = set(string)
  nullable    = false
}

variable "cidr" {
  description = "Its network, a /16."
  type        = string
  nullable    = false
}

variable "zones" {
  description = "Letters of the three availability zones that are used; the machine stands in the first."
  type        = list(string)
  default     = ["a", "b", "c"]
  nullable    = false
}

variable "host" {
  description = "The name by which regions know it: the host of their uplink_url."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.host))
    error_message = "host is a DNS name such as global.mesh.example.org."
  }
}

variable "clients" {
  description = "Clients of its API, as in the module node-config; their public keys are files below /var/lib/medmesh."
  type        = list(object({ client_id = string, kid = string, public_key = string, scope = string }))
  default     = []
  nullable    = false
  # guard: clients-on-the-disk
  validation {
    condition     = alltrue([for client in var.clients : can(regex("^/var/lib/medmesh(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", client.public_key))])
    error_message = "public_key is a file below /var/lib/medmesh: whatever lies elsewhere is gone with the machine; not so of: ${join(", ", [for client in var.clients : client.client_id if !can(regex("^/var/lib/medmesh(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", client.public_key))])}."
  }
}

variable "image_id" {
  description = "As in the module machine, which validates it."
  type        = string
  nullable    = false
}

variable "instance_type" {
  description = "The type of the one machine of the global node."
  type        = string
  default     = "m7i.large"
  nullable    = false
}

variable "disk_gb" {
  description = "As in the module machine, which validates it."
  type        = number
  default     = 100
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
