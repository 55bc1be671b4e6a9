output "mesh" {
  description = "The folder of the mesh; mesh.json in it says where every part is."
  value       = local.dir
}

output "fhir" {
  description = "Where each region serves FHIR R4."
  value       = { for name, region in local.mesh.regions : name => region.fhir }
}

output "catalog" {
  description = "Where the global node serves its catalog."
  value       = local.mesh.global.api
}

output "rollout" {
  description = "The order in which a new version comes to the regions."
  value       = module.topology.rollout
}

output "found_dead" {
  description = "Processes that were found dead, and how often, since the mesh was made."
  value = {
    for name, restarts in merge(
      { for name, process in module.global : name => process.restarts },
      { for name, process in module.regional : name => process.restarts },
      { for name, process in module.edge : name => process.restarts },
      { for name, process in module.devices : "devices-${name}" => process.restarts },
    ) : name => restarts if restarts > 0
  }
}
