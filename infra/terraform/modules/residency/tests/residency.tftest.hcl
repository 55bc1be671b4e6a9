# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
variables {
  region         = "eu-central-1"
  jurisdiction   = "eu"
  lawful         = ["eu-central-1", "eu-west-1"]
  account_id     = "222222222222"
  pair           = "eu-west-1"
  backup_region  = "eu-central-1"
  facility_cidrs = { berlin = "10.200.1.0/24" }
  retention_days = 35
  uplink_region  = "eu-west-1"
  uplink_service = "com.amazonaws.vpce.eu-west-1.vpce-svc-0123456789abcdef0"
  cidr           = "10.20.0.0/16"
  pair_cidr      = "10.21.0.0/16"
  authority_arn  = "arn:aws:acm-pca:eu-central-1:222222222222:certificate-authority/00000000-0000-0000-0000-000000000000"
}

run "accepts_a_region_that_refers_to_its_own_jurisdiction" {
  command = plan
  assert {
    condition     = output.region == "eu-central-1"
    error_message = "the region is passed on"
  }
}

run "refuses_region_lawful" {
  command = plan
  variables {
    region = "us-east-1"
  }
  expect_failures = [var.region]
}

run "refuses_pair_lawful" {
  command = plan
  variables {
    pair = "us-east-1"
  }
  expect_failures = [var.pair]
}

run "refuses_backup_lawful" {
  command = plan
  variables {
    backup_region = "us-east-1"
  }
  expect_failures = [var.backup_region]
}

run "refuses_key_here" {
  command = plan
  variables {
    key_arn = "arn:aws:kms:eu-west-1:222222222222:key/a"
  }
  expect_failures = [var.key_arn]
}

run "refuses_key_single" {
  command = plan
  variables {
    key_arn = "arn:aws:kms:eu-central-1:222222222222:key/mrk-1"
  }
  expect_failures = [var.key_arn]
}

run "refuses_facility_network" {
  command = plan
  variables {
    facility_cidrs = { half_the_internet = "128.0.0.0/1" }
  }
  expect_failures = [var.facility_cidrs]
}

run "refuses_authority_lawful" {
  command = plan
  variables {
    authority_arn = "arn:aws:acm-pca:us-east-1:222222222222:certificate-authority/0"
  }
  expect_failures = [var.authority_arn]
}

run "refuses_retention" {
  command = plan
  variables {
    retention_days = 7
  }
  expect_failures = [var.retention_days]
}

run "refuses_uplink_of_the_global_node" {
  command = plan
  variables {
    uplink_service = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
  }
  expect_failures = [var.uplink_service]
}

run "refuses_pair_network" {
  command = plan
  variables {
    pair_cidr = "10.20.0.0/16"
  }
  expect_failures = [var.pair_cidr]
}

run "refuses_facility_network_apart" {
  command = plan
  variables {
    facility_cidrs = { berlin = "10.200.1.0/24", within = "10.21.64.0/24" }
  }
  expect_failures = [var.facility_cidrs]
}

run "a_network_that_has_the_regions_within_it_is_not_apart_either" {
  command = plan
  variables {
    facility_cidrs = { around = "10.0.0.0/8" }
  }
  expect_failures = [var.facility_cidrs]
}

run "everybody_is_no_facility" {
  command = plan
  variables {
    facility_cidrs = { everybody = "0.0.0.0/0" }
  }
  expect_failures = [var.facility_cidrs]
}

run "refuses_facilities_apart" {
  command = plan
  variables {
    facility_cidrs = { berlin = "10.200.1.0/24", potsdam = "10.200.0.0/16" }
  }
  expect_failures = [var.facility_cidrs]
}

run "neighbours_are_apart" {
  command = plan
  variables {
    facility_cidrs = { berlin = "10.200.1.0/24", potsdam = "10.200.2.0/24" }
  }
}

run "a_retention_below_zero_is_none" {
  command = plan
  variables {
    retention_days = -1
  }
  expect_failures = [var.retention_days]
}
