# The guards of residency. A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
variables {
  jurisdictions = {
    us = { account_id = "111111111111", domain = "us.mesh.example.org" }
    eu = { account_id = "222222222222", domain = "eu.mesh.example.org" }
  }
  global = { region = "eu-west-1", cidr = "10.1.0.0/16", port_base = 21000 }
  regions = {
    us-east-1    = { jurisdiction = "us", pair = "us-west-2", cidr = "10.10.0.0/16", port_base = 21100, canary = true }
    us-west-2    = { jurisdiction = "us", pair = "us-east-1", cidr = "10.11.0.0/16", port_base = 21200 }
    eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
    eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200 }
  }
  facilities = {
    berlin = { jurisdiction = "eu", region = "eu-central-1", port_base = 24000 }
    boston = { jurisdiction = "us", region = "us-east-1", port_base = 24100, beds = 3 }
  }
}

run "accepts_a_mesh_in_which_everything_is_where_it_belongs" {
  command = plan
  assert {
    condition     = output.places["edge-berlin"].place == "edge/eu/eu-central-1/berlin"
    error_message = "a facility's place has its jurisdiction and its region"
  }
  assert {
    condition     = length(output.places) == 1 + 4 + 2
    error_message = "a global node, a node a region, a node a facility"
  }
  assert {
    condition     = output.regions["eu-west-1"].backup == "eu-west-1"
    error_message = "backups stay in their region unless another one is named"
  }
  assert {
    condition     = output.rollout[0] == "us-east-1" && length(output.rollout) == 4
    error_message = "the canary is first, and every region has its turn"
  }
}

run "accepts_a_backup_in_another_region_of_the_same_jurisdiction" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100, backup = "eu-north-1" }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200 }
    }
    facilities = {}
  }
  assert {
    condition     = output.regions["eu-central-1"].backup == "eu-north-1"
    error_message = "the named region is taken"
  }
}

run "grows_by_a_jurisdiction_without_touching_the_places_of_the_others" {
  command = plan
  variables {
    only_jurisdictions = ["eu"]
  }
  assert {
    condition     = join(" ", keys(output.places)) == "edge-berlin global regional-eu-central-1 regional-eu-west-1"
    error_message = "only what is in the named jurisdictions is there"
  }
  assert {
    condition     = join(" ", keys(output.jurisdictions)) == "eu"
    error_message = "only the named jurisdictions are there"
  }
}

run "refuses_known_jurisdiction" {
  command = plan
  variables {
    jurisdictions = {
      us   = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu   = { account_id = "222222222222", domain = "eu.mesh.example.org" }
      mars = { account_id = "333333333333", domain = "mars.mesh.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_account_apart" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu = { account_id = "111111111111", domain = "eu.mesh.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_account_number" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu = { account_id = "22222", domain = "eu.mesh.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_domain" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu = { account_id = "222222222222", domain = "https://eu" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "a_label_of_a_domain_has_63_characters_at_most" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu = { account_id = "222222222222", domain = "${join("", [for _ in range(64) : "e"])}.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_domain_apart" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "mesh.example.org" }
      eu = { account_id = "222222222222", domain = "mesh.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_domain_below" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu = { account_id = "222222222222", domain = "eu.us.mesh.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_global_region" {
  command = plan
  variables {
    global = { region = "moon-1", cidr = "10.1.0.0/16", port_base = 21000 }
  }
  expect_failures = [var.global]
}

run "refuses_region_jurisdiction" {
  command = plan
  variables {
    jurisdictions = { us = { account_id = "111111111111", domain = "us.mesh.example.org" } }
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_region_elsewhere" {
  command = plan
  variables {
    regions = {
      eu-west-1 = { jurisdiction = "eu", pair = "eu-west-2", cidr = "10.21.0.0/16", port_base = 22200 }
      eu-west-2 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.22.0.0/16", port_base = 22300 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_pair_mutual" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.21.0.0/16", port_base = 22200 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_pair_across" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "us-east-1", cidr = "10.20.0.0/16", port_base = 22100 }
      us-east-1    = { jurisdiction = "us", pair = "eu-central-1", cidr = "10.10.0.0/16", port_base = 21100 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_backup_elsewhere" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, backup = "us-east-1" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_key_form" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, key_arn = "alias/medmesh" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_key_elsewhere" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, key_arn = "arn:aws:kms:us-east-1:222222222222:key/a" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_key_multi_region" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, key_arn = "arn:aws:kms:eu-west-1:222222222222:key/mrk-1" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_key_shared" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100, key_arn = "arn:aws:kms:eu-central-1:222222222222:key/a" }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, key_arn = "arn:aws:kms:eu-west-1:222222222222:key/a" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_key_account" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, key_arn = "arn:aws:kms:eu-west-1:111111111111:key/a" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_network_shared" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.1.0.0/16", port_base = 22200 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_network_form" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/24", port_base = 22200 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_network_private" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "8.8.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "an_address_of_version_6_is_no_network_of_the_mesh" {
  command = plan
  variables {
    global = { region = "eu-west-1", cidr = "fd00::/16", port_base = 21000 }
  }
  expect_failures = [var.regions]
}

run "what_is_no_key_at_all_is_refused_as_well" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = "eu", pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200, key_arn = "" }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "refuses_facility_name" {
  command = plan
  variables {
    facilities = { Berlin = { jurisdiction = "eu", region = "eu-central-1", port_base = 24000 } }
  }
  expect_failures = [var.facilities]
}

run "refuses_facility_region" {
  command = plan
  variables {
    facilities = { berlin = { jurisdiction = "eu", region = "eu-north-1", port_base = 24000 } }
  }
  expect_failures = [var.facilities]
}

run "refuses_facility_elsewhere" {
  command = plan
  variables {
    facilities = { berlin = { jurisdiction = "eu", region = "us-east-1", port_base = 24000 } }
  }
  expect_failures = [var.facilities]
}

run "refuses_facility_beds" {
  command = plan
  variables {
    facilities = { berlin = { jurisdiction = "eu", region = "eu-central-1", port_base = 24000, beds = 65 } }
  }
  expect_failures = [var.facilities]
}

run "what_is_null_is_refused_of_jurisdictions" {
  command = plan
  variables {
    jurisdictions = {
      us = { account_id = "111111111111", domain = "us.mesh.example.org" }
      eu = { account_id = null, domain = "eu.mesh.example.org" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "what_is_null_is_refused_of_global" {
  command = plan
  variables {
    global = { region = null, cidr = "10.1.0.0/16", port_base = 21000 }
  }
  expect_failures = [var.global]
}

run "what_is_null_is_refused_of_regions" {
  command = plan
  variables {
    regions = {
      eu-central-1 = { jurisdiction = null, pair = "eu-west-1", cidr = "10.20.0.0/16", port_base = 22100 }
      eu-west-1    = { jurisdiction = "eu", pair = "eu-central-1", cidr = "10.21.0.0/16", port_base = 22200 }
    }
    facilities = {}
  }
  expect_failures = [var.regions]
}

run "what_is_null_is_refused_of_facilities" {
  command = plan
  variables {
    facilities = { berlin = { jurisdiction = null, region = "eu-central-1", port_base = 24000 } }
  }
  expect_failures = [var.facilities]
}

run "refuses_unknown_key" {
  command = plan
  variables {
    file = "tests/unknown-key.json"
  }
  expect_failures = [output.places]
}

run "refuses_mistyped" {
  command = plan
  variables {
    file = "tests/mistyped.json"
  }
  expect_failures = [output.file]
}

run "takes_the_file_of_the_mesh" {
  command = plan
  variables {
    file = "../../regions.tfvars.json"
  }
}

run "refuses_port_shared" {
  command = plan
  variables {
    facilities = { berlin = { jurisdiction = "eu", region = "eu-central-1", port_base = 22099 } }
  }
  expect_failures = [output.places]
}

run "refuses_port_range" {
  command = plan
  variables {
    facilities = { berlin = { jurisdiction = "eu", region = "eu-central-1", port_base = 40000 } }
  }
  expect_failures = [output.places]
}

run "refuses_only_known" {
  command = plan
  variables {
    only_jurisdictions = ["apac"]
  }
  expect_failures = [var.only_jurisdictions]
}

run "null_is_no_jurisdiction" {
  command = plan
  variables {
    only_jurisdictions = [null]
  }
  expect_failures = [var.only_jurisdictions]
}

run "refuses_layer_region" {
  command = plan
  variables {
    layer = { region = "eu-north-1" }
  }
  expect_failures = [var.layer]
}

run "refuses_layer_jurisdiction" {
  command = plan
  variables {
    layer = { region = "us-east-1", jurisdiction = "eu" }
  }
  expect_failures = [var.layer]
}

run "refuses_layer_facilities" {
  command = plan
  variables {
    layer = { region = "eu-central-1", facilities = ["berlin", "boston"] }
  }
  expect_failures = [var.layer]
}

run "refuses_layer_account" {
  command = plan
  variables {
    layer = { region = "eu-west-1", account_id = "222222222222" }
  }
  expect_failures = [var.layer]
}

run "refuses_layer_global" {
  command = plan
  variables {
    layer = { region = "eu-central-1", account_id = "444444444444" }
  }
  expect_failures = [var.layer]
}

run "a_layer_of_what_is_there_is_taken" {
  command = plan
  variables {
    layer = { region = "eu-central-1", jurisdiction = "eu", facilities = ["berlin"] }
  }
}

run "a_bucket_of_the_global_node_is_in_an_account_of_its_own" {
  command = plan
  variables {
    global = { region = "eu-north-1", cidr = "10.1.0.0/16", port_base = 21000 }
    layer  = { region = "eu-north-1", account_id = "444444444444" }
  }
}
