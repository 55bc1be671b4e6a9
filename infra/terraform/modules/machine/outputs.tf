output "group" {
  description = "The group that keeps the machine: what a replacement is begun of."
  value       = aws_autoscaling_group.this.name
}
