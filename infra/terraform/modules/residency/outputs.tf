output "region" {
  description = "The region, once everything that it refers to was found to be where it belongs."
  value       = var.region
}
