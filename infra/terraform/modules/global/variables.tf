variable "jurisdictions" {
  description = "Jurisdictions with every cloud region where their law applies, and their account: output jurisdictions of the module topology."
  type        = map(object({ lawful = list(string), account_id = string }))
  nullable    = false
  # guard: no-region-of-two-laws
  validation {
    condition     = length(distinct(flatten(values(var.jurisdictions)[*].lawful))) == length(flatten(values(var.jurisdictions)[*].lawful))
    error_message = "RESIDENCY: one cloud region is in two jurisdictions."
  }
  validation {
    condition     = alltrue([for one in values(var.jurisdictions) : length(one.lawful) > 0])
    error_message = "A jurisdiction without a region would be denied everything: ${join(", ", [for name, one in var.jurisdictions : name if length(one.lawful) == 0])}."
  }
}

variable "parent_id" {
  description = "The root or the organisational unit of AWS Organizations below which the jurisdictions' units are made."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^(r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[0-9a-z]{8,32})$", var.parent_id))
    error_message = "parent_id is like r-abcd or ou-abcd-12345678."
  }
}

variable "global_account_id" {
  description = "The account of the global node, to which regions link."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.global_account_id))
    error_message = "global_account_id has 12 digits."
  }
  # guard: links-to-no-jurisdiction
  validation {
    condition     = !contains(values(var.jurisdictions)[*].account_id, var.global_account_id)
    error_message = "RESIDENCY: global_account_id is the account of a jurisdiction, to which every other one's networks could be linked: ${var.global_account_id}."
  }
}
