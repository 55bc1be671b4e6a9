output "group" {
  description = "The group that keeps the machine: what a replacement is begun of."
  value       = aws_autoscaling_group.this.name
}

output "workspace" {
  description = "Where the machine writes what the node says of itself; none where it does not."
  value       = one(var.metrics[*].arn)
}
