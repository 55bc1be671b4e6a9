# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
variables {
  tier       = "edge"
  place      = { jurisdiction = "eu", region = "eu-central-1", facility = "berlin" }
  dirs       = { config = "/etc/medmesh", data = "/var/lib/medmesh", authority = "/etc/medmesh" }
  listen     = { https = "0.0.0.0:8443", mqtt = "0.0.0.0:8883" }
  uplink_url = "https://ingest.eu.mesh.example.org:7443"
}

run "refuses_place_names" {
  command = plan
  variables {
    place = { jurisdiction = "eu", region = "eu-central-1", facility = "Berlin" }
  }
  expect_failures = [var.place]
}

run "refuses_place_of_the_tier" {
  command = plan
  variables {
    place = { jurisdiction = "eu", region = "eu-central-1" }
  }
  expect_failures = [var.place]
}

run "refuses_folders" {
  command = plan
  variables {
    dirs = { config = "/etc/medmesh", data = "data", authority = "/etc/medmesh" }
  }
  expect_failures = [var.dirs]
}

run "refuses_addresses" {
  command = plan
  variables {
    listen = { https = "everywhere:8443", mqtt = "0.0.0.0:8883" }
  }
  expect_failures = [var.listen]
}

run "refuses_listeners_of_the_tier" {
  command = plan
  variables {
    listen = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443", mqtt = "0.0.0.0:8883" }
  }
  expect_failures = [var.listen]
}

run "refuses_public_url" {
  command = plan
  variables {
    public_url = "http://edge.berlin.example.org"
  }
  expect_failures = [var.public_url]
}

run "refuses_uplink" {
  command = plan
  variables {
    uplink_url = null
  }
  expect_failures = [var.uplink_url]
}

run "refuses_postgres_of_a_region" {
  command = plan
  variables {
    postgres = { url_file = "/etc/medmesh/postgres.url" }
  }
  expect_failures = [var.postgres]
}

run "refuses_pair_on_postgres" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    pair       = { node = "a" }
  }
  expect_failures = [var.pair]
}

run "refuses_pair_name" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    postgres   = { url_file = "/etc/medmesh/postgres.url" }
    pair       = { node = "A" }
  }
  expect_failures = [var.pair]
}

run "refuses_pair_addresses" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    postgres   = { url_file = "/etc/medmesh/postgres.url" }
    pair       = { node = "a", https = "a.example.org" }
  }
  expect_failures = [var.pair]
}

run "refuses_authority_of_the_tier" {
  command = plan
  variables {
    enrolment = "/var/lib/medmesh/authority"
  }
  expect_failures = [var.enrolment]
}

run "refuses_authority_folder" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    enrolment  = "authority/"
  }
  expect_failures = [var.enrolment]
}

run "refuses_scylla_of_the_global_node" {
  command = plan
  variables {
    scylla = { nodes = ["127.0.0.1:9042"], keyspace = "medmesh", replication = 3 }
  }
  expect_failures = [var.scylla]
}

run "refuses_disk_quantities" {
  command = plan
  variables {
    disk = { max_size = "64GiB", alarm_reserve = "256MiB", retention = "-1d" }
  }
  expect_failures = [var.disk]
}

run "refuses_clients_apart" {
  command = plan
  variables {
    clients = [
      { client_id = "a", kid = "a-1", public_key = "/etc/medmesh/a.pem", scope = "system/*.rs" },
      { client_id = "a", kid = "a-2", public_key = "/etc/medmesh/b.pem", scope = "system/*.rs" },
    ]
  }
  expect_failures = [var.clients]
}

run "refuses_device_kind" {
  command = plan
  variables {
    devices = [{ id = "x-1", kind = "pump" }]
  }
  expect_failures = [var.devices]
}

run "refuses_devices_of_an_edge" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    devices    = [{ id = "lab-1", kind = "lab-analyser" }]
  }
  expect_failures = [var.devices]
}
