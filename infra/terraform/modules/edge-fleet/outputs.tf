output "node_configs" {
  description = "The configuration of each facility's node (TOML)."
  value       = { for name, config in module.config : name => config.toml }
}

output "cidrs" {
  description = "The network of each facility: input facility_cidrs of the module region."
  value       = { for name, facility in var.facilities : name => facility.cidr }
}
