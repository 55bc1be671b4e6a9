output "service" {
  description = "The service that regions link to: input uplink_service of the layer region."
  value       = aws_vpc_endpoint_service.this.service_name
}

output "uplink_url" {
  description = "What regions deliver to: input uplink_url of the layer region."
  value       = "https://${var.host}:${local.ports.grpc}"
}

output "node_config" {
  description = "The configuration that the node reads (TOML)."
  value       = module.config.toml
}
