# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
mock_provider "aws" {}

variables {
  region         = "eu-central-1"
  jurisdiction   = "eu"
  ingest_url     = "https://ingest.eu-central-1.eu.mesh.example.org:7443"
  vpn_gateway_id = "vgw-0123456789abcdef0"
  key_arn        = "arn:aws:kms:eu-central-1:222222222222:key/00000000-0000-0000-0000-000000000000"
  facilities = {
    berlin = { jurisdiction = "eu", gateway = "192.0.2.1", cidr = "10.200.1.0/24", host = "edge.berlin.example.org" }
  }
}

run "refuses_ingest_of_the_region" {
  command = plan
  variables {
    ingest_url = "https://ingest.us-east-1.us.mesh.example.org:7443"
  }
  expect_failures = [var.ingest_url]
}

run "refuses_key_of_the_region" {
  command = plan
  variables {
    key_arn = "arn:aws:kms:us-east-1:111111111111:key/1"
  }
  expect_failures = [var.key_arn]
}

run "refuses_facility_of_the_jurisdiction" {
  command = plan
  variables {
    facilities = {
      boston = { jurisdiction = "us", gateway = "192.0.2.1", cidr = "10.200.1.0/24", host = "edge.boston.example.org" }
    }
  }
  expect_failures = [var.facilities]
}

run "refuses_facility_gateway" {
  command = plan
  variables {
    facilities = {
      berlin  = { jurisdiction = "eu", gateway = "192.0.2.1", cidr = "10.200.1.0/24", host = "edge.berlin.example.org" }
      potsdam = { jurisdiction = "eu", gateway = "192.0.2.256", cidr = "10.200.2.0/24", host = "edge.potsdam.example.org" }
    }
  }
  expect_failures = [var.facilities]
}

run "refuses_facility_line" {
  command = plan
  variables {
    facilities = {
      berlin  = { jurisdiction = "eu", gateway = "192.0.2.1", cidr = "10.200.1.0/24", host = "edge.berlin.example.org" }
      potsdam = { jurisdiction = "eu", gateway = "192.0.2.2", cidr = "10.200.2.1/24", host = "edge.potsdam.example.org" }
    }
  }
  expect_failures = [var.facilities]
}

run "refuses_facility_lines_apart" {
  command = plan
  variables {
    facilities = {
      berlin  = { jurisdiction = "eu", gateway = "192.0.2.1", cidr = "10.200.1.0/24", host = "edge.berlin.example.org" }
      potsdam = { jurisdiction = "eu", gateway = "192.0.2.2", cidr = "10.200.0.0/16", host = "edge.potsdam.example.org" }
    }
  }
  expect_failures = [var.facilities]
}
