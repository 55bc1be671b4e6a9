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

variable "domain" {
  description = "The domain of the jurisdiction."
  type        = string
  nullable    = false
}

variable "uplink_url" {
  description = "https://host:port of the global node."
  type        = string
  nullable    = false
}

variable "enrolment" {
  description = "The folder on the disk of node a of an authority of its own, by which facilities join with a kit while that node writes; a person puts it there. None when left out."
  type        = string
  default     = null
  # guard: authority-on-the-disk
  validation {
    condition     = var.enrolment == null || can(regex("^/var/lib/medmesh(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", var.enrolment))
    error_message = "enrolment is a folder below /var/lib/medmesh: whatever lies elsewhere is gone with the machine."
  }
}

variable "clients" {
  description = "Clients of the region's FHIR interface, as in the module node-config; their public keys are files below /var/lib/medmesh, at both nodes."
  type        = list(object({ client_id = string, kid = string, public_key = string, scope = string }))
  default     = []
  nullable    = false
  # guard: clients-on-the-disk
  validation {
    condition     = alltrue([for client in var.clients : can(regex("^/var/lib/medmesh(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", client.public_key))])
    error_message = "public_key is a file below /var/lib/medmesh: whatever lies elsewhere is gone with the machine; not so of: ${join(", ", [for client in var.clients : client.client_id if !can(regex("^/var/lib/medmesh(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", client.public_key))])}."
  }
}
