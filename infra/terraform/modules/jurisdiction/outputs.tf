output "authority_arn" {
  description = "The private certificate authority."
  value       = aws_acmpca_certificate_authority.this.arn
}

output "zone_id" {
  description = "The zone of the domain."
  value       = aws_route53_zone.this.zone_id
}

output "name_servers" {
  description = "Who answers for the domain: to be named where the domain above it is kept."
  value       = aws_route53_zone.this.name_servers
}
