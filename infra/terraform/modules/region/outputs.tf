output "ingest" {
  description = "https://host:port that facilities of the region deliver to."
  value       = "https://ingest.${var.region}.${var.domain}:${local.ports.grpc}"
}

output "fhir" {
  description = "Where the region serves FHIR R4."
  value       = "https://fhir.${var.region}.${var.domain}:${local.ports.https}/fhir"
}

output "vpn_gateway_id" {
  description = "Where facilities' lines end."
  value       = aws_vpn_gateway.facilities.id
}

output "key_arn" {
  description = "The key of the region's data at rest."
  value       = local.key_arn
}

output "node_configs" {
  description = "The configuration that each of the region's two nodes reads (TOML)."
  value       = module.nodes.configs
}

output "node_groups" {
  description = "The groups that keep the machines of the two nodes: what a replacement is begun of."
  value       = { for name, machine in module.machine : name => machine.group }
}

output "network" {
  description = "What the layer pair needs: the network, its address and its routes."
  value       = { vpc_id = module.place.vpc_id, cidr = var.cidr, route_table_id = module.place.route_table_id }
}

output "keyspaces" {
  description = "CQL to be said once to ScyllaDB, when the rings of both regions of the pair are one: /etc/scylla/medmesh.cql of its machines."
  value       = local.keyspaces
}

output "stores" {
  description = "Where data is at rest."
  value       = { postgres = aws_rds_cluster.fhir.arn, kafka = aws_msk_cluster.this.arn, backups = module.place.backups.vault_arn, key = local.key_arn }
}
