# The global node alone, as a process of this machine. Build the program first (cargo build --release), then:
#   terraform init && terraform apply -var binary=$PWD/../../../../../../target/release/medmesh
terraform {
  required_version = ">= 1.11, < 2.0"
}

variable "binary" {
  description = "The program."
  type        = string
}

locals {
  dir       = abspath("${path.root}/.mesh")
  installed = "${local.dir}/bin/medmesh"
}

resource "terraform_data" "mesh" {
  input = { dir = local.dir, binary = local.installed }

  provisioner "local-exec" {
    interpreter = [var.binary, "local", "install"]
    command     = jsonencode(self.output)
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = [self.output.binary, "local", "sweep"]
    command     = jsonencode({ dir = self.output.dir })
  }
}

module "config" {
  source     = "../../../node-config"
  tier       = "global"
  place      = {}
  dirs       = { config = "${local.dir}/global", data = "${local.dir}/global/data", authority = "${local.dir}/pki" }
  listen     = { https = "127.0.0.1:20900", grpc = "127.0.0.1:20901" }
  local_mesh = true
}

module "process" {
  source     = "../.."
  name       = "global"
  dir        = local.dir
  binary     = local.installed
  place      = "global"
  config     = module.config.toml
  depends_on = [terraform_data.mesh]
}

output "restarts" {
  description = "How often it was found dead."
  value       = module.process.restarts
}
