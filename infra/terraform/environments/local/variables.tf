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

variable "only_jurisdictions" {
  description = "The jurisdictions that are there now; all of them when empty."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "dir" {
  description = "Folder of the mesh: identities, configuration, data and logs. Destroying the mesh removes it. Beside this configuration when left out."
  type        = string
  default     = null
}

variable "binary" {
  description = "The program medmesh that every place runs for which binaries names no other."
  type        = string
  nullable    = false
  validation {
    condition     = fileexists(var.binary)
    error_message = "binary: ${var.binary} is not there; `cargo xtask rollout local` builds it."
  }
}

variable "binaries" {
  description = "Other versions of the program, by region, or by global for the global node: how a new one comes to one region after another."
  type        = map(string)
  default     = {}
  nullable    = false
  validation {
    condition     = alltrue([for path in values(var.binaries) : fileexists(path)])
    error_message = "binaries: not there: ${join(", ", [for path in values(var.binaries) : path if !fileexists(path)])}."
  }
  validation {
    condition     = alltrue([for name in keys(var.binaries) : name == "global" || contains(keys(var.regions), name)])
    error_message = "binaries names no region: ${join(", ", [for name in keys(var.binaries) : name if name != "global" && !contains(keys(var.regions), name)])}."
  }
}

variable "port_shift" {
  description = "Added to every port, for a second mesh on the same machine."
  type        = number
  default     = 0
  nullable    = false
}
