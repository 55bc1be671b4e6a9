# The configurations of Frankfurt's two nodes: terraform init && terraform apply && terraform output -json configs
terraform {
  required_version = ">= 1.11, < 2.0"
}

module "nodes" {
  source       = "../.."
  region       = "eu-central-1"
  jurisdiction = "eu"
  domain       = "eu.mesh.example.org"
  uplink_url   = "https://global.mesh.example.org:7443"
}

output "configs" {
  description = "The configuration of each node."
  value       = module.nodes.configs
}
