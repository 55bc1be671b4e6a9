variable "name" {
  description = "What the process is called: the name of its file in the folder run."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z0-9-]{1,64}$", var.name))
    error_message = "name is of 1 to 64 characters of a-z, 0-9 and '-'."
  }
}

variable "dir" {
  description = "Folder of the mesh, absolute, made by `medmesh local install`."
  type        = string
  nullable    = false
  validation {
    condition     = startswith(var.dir, "/")
    error_message = "dir is an absolute path."
  }
}

variable "binary" {
  description = "The program, in the folder bin of the mesh: its name has its hash, so that another version is another path."
  type        = string
  nullable    = false
  validation {
    condition     = startswith(var.binary, "/")
    error_message = "binary is an absolute path."
  }
}

variable "kind" {
  description = "node or devices (the simulated devices of a facility)."
  type        = string
  default     = "node"
  nullable    = false
  validation {
    condition     = contains(["node", "devices"], var.kind)
    error_message = "kind is node or devices."
  }
}

variable "place" {
  description = "The place of the node, or of the devices' facility: global, regional/JURISDICTION/REGION, edge/JURISDICTION/REGION/FACILITY."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^(global|regional(/[a-z0-9-]+){2}|edge(/[a-z0-9-]+){3})$", var.place))
    error_message = "place is global, regional/JURISDICTION/REGION or edge/JURISDICTION/REGION/FACILITY."
  }
}

variable "devices" {
  description = "Devices of the facility that have certificates of their own."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "config" {
  description = "The configuration file (TOML)."
  type        = string
  nullable    = false
}

variable "patience_s" {
  description = "How long the process may take until it answers, in seconds."
  type        = number
  default     = 120
  nullable    = false
  validation {
    condition     = var.patience_s >= 1 && var.patience_s <= 600 && floor(var.patience_s) == var.patience_s
    error_message = "patience_s is a whole number from 1 to 600."
  }
}
