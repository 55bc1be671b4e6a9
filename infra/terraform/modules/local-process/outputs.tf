output "restarts" {
  description = "How often the process was found dead and started again."
  value       = local.restarts
}
