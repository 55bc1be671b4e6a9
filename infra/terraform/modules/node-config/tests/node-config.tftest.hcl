variables {
  tier       = "edge"
  place      = { jurisdiction = "eu", region = "eu-central-1", facility = "berlin" }
  dirs       = { config = "/etc/medmesh", data = "/var/lib/medmesh", authority = "/etc/medmesh" }
  listen     = { https = "0.0.0.0:8443", mqtt = "0.0.0.0:8883" }
  uplink_url = "https://ingest.eu.mesh.example.org:7443"
}

run "an_edge_names_its_place_and_no_patient" {
  command = plan
  assert {
    condition     = strcontains(output.toml, "facility = \"berlin\"\n") && strcontains(output.toml, "\n[uplink]\nurl = \"https://ingest.eu.mesh.example.org:7443\"\n")
    error_message = "the place and the uplink are written"
  }
  assert {
    condition     = !strcontains(output.toml, "[[beds]]") && strcontains(output.toml, "local_mesh = false\n")
    error_message = "no patient is written"
  }
}

run "a_quote_in_a_path_stays_in_its_value" {
  command = plan
  variables {
    dirs = { config = "/etc/\"a\n[b]", data = "/var/lib/medmesh", authority = "/etc/medmesh" }
  }
  assert {
    condition     = strcontains(output.toml, "cert = \"/etc/\\\"a\\n[b]/node.pem\"\n")
    error_message = "the value is escaped as TOML escapes it"
  }
}

run "a_region_has_the_engine_that_it_is_given" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    postgres   = { url_file = "/etc/medmesh/postgres.url", ca = "/etc/medmesh/postgres-ca.pem" }
  }
  assert {
    condition     = strcontains(output.toml, "[store]\nengine = \"postgres\"\nurl_file = \"/etc/medmesh/postgres.url\"\nca = \"/etc/medmesh/postgres-ca.pem\"\n")
    error_message = "the region reads PostgreSQL's files"
  }
}

run "one_of_two_nodes_of_a_region_knows_the_other_one" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    postgres   = { url_file = "/etc/medmesh/postgres.url" }
    pair       = { node = "a", https = "https://a.example.org:8443", other = { https = "https://b.example.org:8443", links = "https://b.example.org:7443" } }
  }
  assert {
    condition     = strcontains(output.toml, "\n[pair]\nnode = \"a\"\nhttps = \"https://a.example.org:8443\"\n\n[pair.other]\nhttps = \"https://b.example.org:8443\"\nlinks = \"https://b.example.org:7443\"\n")
    error_message = "both nodes are named"
  }
}

run "a_region_without_postgresql_is_one_node" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    pair       = { node = "a", other = { https = "https://b.example.org", links = "https://b.example.org:7443" } }
  }
  expect_failures = [var.pair]
}

run "facilities_join_where_the_region_has_an_authority_and_nowhere_else" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    enrolment  = "/var/lib/medmesh/authority"
  }
  assert {
    condition     = strcontains(output.toml, "\n[enrolment]\nauthority = \"/var/lib/medmesh/authority\"\n")
    error_message = "the region reads where its authority is"
  }
}

run "a_region_without_an_authority_has_no_enrolment" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
  }
  assert {
    condition     = !strcontains(output.toml, "[enrolment]")
    error_message = "nothing is written that was not asked for"
  }
}

run "the_global_node_renews_by_an_authority_where_it_has_one" {
  command = plan
  variables {
    tier       = "global"
    place      = {}
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = null
    enrolment  = "/var/lib/medmesh/authority"
  }
  assert {
    condition     = strcontains(split("[tls]", output.toml)[0], "\nauthority = \"/var/lib/medmesh/authority\"\n")
    error_message = "the global node reads where its authority is, outside of every table"
  }
}

run "refuses_signer_beside_publication" {
  command = plan
  variables {
    tier       = "regional"
    place      = { jurisdiction = "eu", region = "eu-central-1" }
    listen     = { https = "0.0.0.0:8443", grpc = "0.0.0.0:7443" }
    uplink_url = "https://global.mesh.example.org:7443"
    enrolment  = "/etc/medmesh"
  }
  expect_failures = [var.enrolment]
}

run "refuses_patients_in_state" {
  command = plan
  variables {
    simulated_beds = ["b1"]
  }
  expect_failures = [var.simulated_beds]
}
