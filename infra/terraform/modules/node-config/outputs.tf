output "toml" {
  description = "The configuration file."
  value = templatefile("${path.module}/templates/${var.tier}.toml.tftpl", {
    place          = var.place
    dirs           = var.dirs
    listen         = var.listen
    public_url     = var.public_url
    uplink_url     = var.uplink_url
    postgres       = var.postgres
    pair           = var.pair
    enrolment      = var.enrolment
    scylla         = var.scylla
    disk           = var.disk
    clients        = var.clients
    devices        = var.devices
    simulated_beds = var.simulated_beds
    local_mesh     = var.local_mesh
  })
}
