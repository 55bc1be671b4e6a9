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

output "node_config" {
  description = "The configuration that the region's node reads (TOML)."
  value       = module.config.toml
}

output "stores" {
  description = "Where data is at rest."
  value       = { postgres = aws_rds_cluster.fhir.arn, kafka = aws_msk_cluster.this.arn, backups = aws_backup_vault.this.arn, key = local.key_arn }
}
