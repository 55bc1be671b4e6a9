output "units" {
  description = "The organisational unit of each jurisdiction: its account is to be moved there."
  value       = { for name, unit in aws_organizations_organizational_unit.jurisdiction : name => unit.id }
}

output "policies" {
  description = "The service control policy of each jurisdiction (JSON)."
  value       = { for name, policy in aws_organizations_policy.jurisdiction : name => policy.content }
}
