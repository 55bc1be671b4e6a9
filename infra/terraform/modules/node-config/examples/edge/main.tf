# The configuration of a facility's node on a machine of its own:
#   terraform init && terraform apply && terraform output -raw toml
terraform {
  required_version = ">= 1.11, < 2.0"
}

module "edge" {
  source     = "../.."
  tier       = "edge"
  place      = { jurisdiction = "eu", region = "eu-central-1", facility = "charite-berlin" }
  dirs       = { config = "/var/lib/medmesh", data = "/var/lib/medmesh/data", authority = "/etc/medmesh" }
  listen     = { https = "0.0.0.0:8443", mqtt = "0.0.0.0:8883" }
  public_url = "https://edge.charite-berlin.example.org:8443"
  uplink_url = "https://ingest.eu.mesh.example.org:7443"
  disk       = { max_size = "64GiB", alarm_reserve = "256MiB", retention = "30d" }
  devices = [
    { id = "monitor-b1", kind = "bedside-monitor", bed = "b1", profile = "medmesh-monitor", address = "tcp://192.0.2.11:502" },
    { id = "lab-1", kind = "lab-analyser" },
  ]
}

output "toml" {
  description = "The file."
  value       = module.edge.toml
}
