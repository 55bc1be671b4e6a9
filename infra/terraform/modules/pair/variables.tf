variable "jurisdiction" {
  description = "Whose law applies in both: us, eu or apac."
  type        = string
  nullable    = false
}

variable "lawful" {
  description = "Every cloud region where the law of the jurisdiction applies: output jurisdictions of the module topology."
  type        = set(string)
  nullable    = false
}

variable "account_id" {
  description = "The account of the jurisdiction, which holds both."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id has 12 digits."
  }
}

variable "here" {
  description = "The one region, and its network: output network of the module region."
  type        = object({ region = string, vpc_id = string, cidr = string, route_table_id = string })
  nullable    = false
  # guard: here-lawful
  validation {
    condition     = contains(var.lawful, var.here.region)
    error_message = "RESIDENCY: ${var.here.region} does not lie in the jurisdiction ${var.jurisdiction}: no way leads from there."
  }
}

variable "other" {
  description = "The other one, likewise."
  type        = object({ region = string, vpc_id = string, cidr = string, route_table_id = string })
  nullable    = false
  # guard: other-lawful
  validation {
    condition     = contains(var.lawful, var.other.region) && var.other.region != var.here.region
    error_message = "RESIDENCY: ${var.other.region} is no other region of the jurisdiction ${var.jurisdiction}: no way leads there."
  }
  # guard: networks-apart
  validation {
    condition     = try(cidrsubnet(var.other.cidr, 0, 0) == var.other.cidr && endswith(var.other.cidr, "/16") && cidrsubnet(var.here.cidr, 0, 0) == var.here.cidr && endswith(var.here.cidr, "/16") && var.other.cidr != var.here.cidr, false)
    error_message = "Each of the two has a /16 network of its own: ${var.here.cidr} and ${var.other.cidr}."
  }
}
