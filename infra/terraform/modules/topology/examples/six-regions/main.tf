# The mesh of regions.tfvars.json, looked at without building anything:
#   terraform init && terraform plan -var-file=../../../../regions.tfvars.json
terraform {
  required_version = ">= 1.11, < 2.0"
}

module "topology" {
  source        = "../.."
  jurisdictions = var.jurisdictions
  global        = var.global
  regions       = var.regions
  facilities    = var.facilities
}

variable "jurisdictions" {
  description = "As in the module topology."
  type        = any
}

variable "global" {
  description = "As in the module topology."
  type        = any
}

variable "regions" {
  description = "As in the module topology."
  type        = any
}

variable "facilities" {
  description = "As in the module topology."
  type        = any
}

output "places" {
  description = "Every node of the mesh."
  value       = keys(module.topology.places)
}
