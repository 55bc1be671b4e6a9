variables {
  region       = "eu-central-1"
  jurisdiction = "eu"
  domain       = "eu.mesh.example.org"
  uplink_url   = "https://global.mesh.example.org:7443"
  enrolment    = "/var/lib/medmesh/pki"
  clients      = [{ client_id = "reader", kid = "reader-1", public_key = "/var/lib/medmesh/reader.pem", scope = "system/*.rs" }]
}

run "two_nodes_know_each_other_and_share_everything_else" {
  command = plan
  assert {
    condition     = strcontains(output.configs["a"], "[pair]\nnode = \"a\"\nhttps = \"https://pair.eu-central-1.eu.mesh.example.org:8444\"\n\n[pair.other]\nhttps = \"https://pair.eu-central-1.eu.mesh.example.org:8445\"\nlinks = \"https://pair.eu-central-1.eu.mesh.example.org:7445\"\n")
    error_message = "a knows where it is reached itself, and b"
  }
  assert {
    condition     = strcontains(output.configs["b"], "[pair]\nnode = \"b\"\nhttps = \"https://pair.eu-central-1.eu.mesh.example.org:8445\"\n\n[pair.other]\nhttps = \"https://pair.eu-central-1.eu.mesh.example.org:8444\"\nlinks = \"https://pair.eu-central-1.eu.mesh.example.org:7444\"\n")
    error_message = "and b knows a"
  }
  assert {
    condition     = split("[pair]", output.configs["a"])[0] == split("[pair]", output.configs["b"])[0]
    error_message = "one place, one certificate, one PostgreSQL"
  }
  assert {
    condition     = strcontains(output.configs["a"], "[enrolment]") && !strcontains(output.configs["b"], "[enrolment]")
    error_message = "an authority has one machine"
  }
}

run "a_balancer_knows_both_nodes_and_each_alone" {
  command = plan
  assert {
    condition = output.listeners.shared == {
      https = { port = 8443, target = 8443, nodes = ["a", "b"] }
      grpc  = { port = 7443, target = 7443, nodes = ["a", "b"] }
    }
    error_message = "clients and facilities come to either"
  }
  assert {
    condition = output.listeners.own == {
      https-a = { port = 8444, target = 8443, nodes = ["a"] }
      grpc-a  = { port = 7444, target = 7443, nodes = ["a"] }
      https-b = { port = 8445, target = 8443, nodes = ["b"] }
      grpc-b  = { port = 7445, target = 7443, nodes = ["b"] }
    }
    error_message = "and each is found by the other one"
  }
}

# What is not on the disk that outlives the machine is gone with it.
run "nothing_that_a_person_brings_is_on_the_machines_own_disk" {
  command = plan
  assert {
    condition     = alltrue([for config in values(output.configs) : !strcontains(config, "/etc/")])
    error_message = "every file that the configuration names is on the disk"
  }
}

run "refuses_authority_on_the_disk" {
  command = plan
  variables {
    enrolment = "/etc/medmesh/pki"
  }
  expect_failures = [var.enrolment]
}

run "refuses_clients_on_the_disk" {
  command = plan
  variables {
    clients = [{ client_id = "reader", kid = "reader-1", public_key = "/etc/medmesh/reader.pem", scope = "system/*.rs" }]
  }
  expect_failures = [var.clients]
}

run "a_path_that_climbs_is_not_below" {
  command = plan
  variables {
    enrolment = "/var/lib/medmesh/../../../etc"
  }
  expect_failures = [var.enrolment]
}
