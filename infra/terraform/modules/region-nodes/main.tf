# The two nodes of a region in a cloud: where each is reached, and the configuration that it reads. Pure, so that what
# their machines are given can be looked at, and checked by `medmesh check-config`, without an account.
terraform {
  required_version = ">= 1.11, < 2.0"
}

locals {
  other = { a = "b", b = "a" }
  ports = { https = 8443, grpc = 7443, metrics = 9443, ready = 9080 }

  # Each node has two ports of its own at a balancer that the two alone use: a machine's address goes with the machine.
  own  = { for index, name in keys(local.other) : name => { https = local.ports.https + 1 + index, grpc = local.ports.grpc + 1 + index } }
  host = "pair.${var.region}.${var.domain}"
  urls = { for name, ports in local.own : name => { https = "https://${local.host}:${ports.https}", links = "https://${local.host}:${ports.grpc}" } }

  # The disk that outlives the machine has everything but the configuration, which comes with each machine anew: what lay
  # on the machine's own disk would be gone with it, and the node would not start until a person had brought it again.
  disk = "/var/lib/medmesh"
}

module "config" {
  source     = "../node-config"
  for_each   = local.other
  tier       = "regional"
  place      = { jurisdiction = var.jurisdiction, region = var.region }
  dirs       = { config = local.disk, data = "${local.disk}/data", authority = "${local.disk}/published" }
  listen     = { https = "0.0.0.0:${local.ports.https}", grpc = "0.0.0.0:${local.ports.grpc}", metrics = "127.0.0.1:${local.ports.metrics}" }
  public_url = "https://fhir.${var.region}.${var.domain}:${local.ports.https}"
  uplink_url = var.uplink_url
  postgres   = { url_file = "${local.disk}/postgres.url", ca = "${local.disk}/postgres-ca.pem" }
  pair       = { node = each.key, https = local.urls[each.key].https, other = local.urls[each.value] }
  # An authority has one machine: two copies would each take the same one-time code.
  enrolment = each.key == "a" ? var.enrolment : null
  clients   = var.clients
}
