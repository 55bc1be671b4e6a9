# One process of a mesh on this machine. Builtin provider only: `medmesh local` does the work, without a shell between.
terraform {
  required_version = ">= 1.11, < 2.0"
}

locals {
  # What `medmesh local start` noted of the last start, and whether that process still lives. One that has ended and was
  # not waited for keeps its folder in /proc, but has no command line.
  noted = try(jsondecode(file("${var.dir}/run/${var.name}.json")), null)
  lives = try(strcontains(file("/proc/${local.noted.pid}/cmdline"), local.noted.config), false)

  # Processes are found in /proc.
  is_linux = fileexists("/proc/self/cmdline")

  # Counts deaths: the one thing that Terraform sees of them. The start notes it, so that the next plan is clean.
  restarts = local.noted == null ? 0 : local.noted.restarts + (local.lives ? 0 : 1)
}

resource "terraform_data" "process" {
  # What the end needs, which may look at nothing else. The token is drawn anew with each start alone, so that the end of
  # what was replaced never ends its successor.
  input = {
    token  = uuid()
    dir    = var.dir
    name   = var.name
    binary = var.binary
  }
  triggers_replace = {
    dir      = var.dir
    binary   = var.binary
    kind     = var.kind
    config   = var.config
    restarts = local.restarts
  }

  lifecycle {
    # The start checks the configuration before it stops what runs: a wrong one changes nothing.
    create_before_destroy = true
    ignore_changes        = [input]
    precondition {
      condition     = local.is_linux
      error_message = "A mesh on one machine needs Linux: processes are found in /proc."
    }
  }

  provisioner "local-exec" {
    quiet       = true
    interpreter = [var.binary, "local", "start"]
    command = jsonencode({
      dir        = var.dir
      name       = var.name
      kind       = var.kind
      place      = var.place
      devices    = var.devices
      config     = var.config
      token      = self.output.token
      restarts   = local.restarts
      patience_s = var.patience_s
    })
  }

  provisioner "local-exec" {
    when        = destroy
    quiet       = true
    interpreter = [self.output.binary, "local", "stop"]
    command     = jsonencode({ dir = self.output.dir, name = self.output.name, token = self.output.token })
  }
}
