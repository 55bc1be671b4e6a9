output "configs" {
  description = "The configuration of each node (TOML)."
  value       = { for name, config in module.config : name => config.toml }
}

output "listeners" {
  description = "What balancers listen at: for clients and facilities, who come to either node (shared), and for each node alone (own), with the node's port behind it."
  value = {
    shared = { for name in ["https", "grpc"] : name => { port = local.ports[name], target = local.ports[name], nodes = keys(local.other) } }
    own = merge([for node, ports in local.own : {
      for name, port in ports : "${name}-${node}" => { port = port, target = local.ports[name], nodes = [node] }
    }]...)
  }
}

output "host" {
  description = "The name of the balancer that the two nodes reach each other by."
  value       = local.host
}

output "ports" {
  description = "Where each node listens; ready is where its machine tells the balancer what the node says of itself."
  value       = local.ports
}
