variable "jurisdiction" {
  description = "Whose law applies: us, eu or apac."
  type        = string
  nullable    = false
  validation {
    condition     = contains(["us", "eu", "apac"], var.jurisdiction)
    error_message = "jurisdiction is us, eu or apac."
  }
}

variable "account_id" {
  description = "The account of the jurisdiction."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id has 12 digits."
  }
}

variable "domain" {
  description = "The domain of the jurisdiction, such as eu.mesh.example.org."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.domain))
    error_message = "domain is a DNS name such as eu.mesh.example.org."
  }
}
