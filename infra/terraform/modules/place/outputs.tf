output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "subnets" {
  description = "The private subnets by the letter of their zone: id, network, and the zone's whole name."
  value       = { for letter, subnet in aws_subnet.private : letter => { id = subnet.id, cidr = subnet.cidr_block, zone = subnet.availability_zone } }
}

output "route_table_id" {
  description = "The routes of the private subnets."
  value       = aws_route_table.private.id
}

output "endpoints_group_id" {
  description = "The group of the endpoints of the cloud's services: whoever is to reach them is let in there."
  value       = aws_security_group.endpoints.id
}

output "key_arn" {
  description = "The key of data at rest."
  value       = local.key_arn
}

output "alarms_arn" {
  description = "Where alarms go."
  value       = aws_sns_topic.alarms.arn
}

output "backups" {
  description = "Where backups go: the plan, the role that makes them, and the vault."
  value       = { plan_id = aws_backup_plan.this.id, role_arn = aws_iam_role.this["backup"].arn, vault_arn = aws_backup_vault.this.arn }
}

output "metrics" {
  description = "Where nodes' machines write what the nodes say of themselves: the workspace and its address."
  value       = { arn = aws_prometheus_workspace.this.arn, endpoint = aws_prometheus_workspace.this.prometheus_endpoint }
}
