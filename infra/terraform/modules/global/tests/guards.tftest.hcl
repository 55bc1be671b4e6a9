# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
mock_provider "aws" {}

variables {
  parent_id         = "r-abcd"
  global_account_id = "444444444444"
  jurisdictions = {
    eu = { lawful = ["eu-central-1", "eu-west-1"], account_id = "222222222222" }
    us = { lawful = ["us-east-1", "us-west-2"], account_id = "111111111111" }
  }
}

run "refuses_no_region_of_two_laws" {
  command = plan
  variables {
    jurisdictions = {
      eu = { lawful = ["eu-central-1"], account_id = "222222222222" }
      us = { lawful = ["us-east-1", "eu-central-1"], account_id = "111111111111" }
    }
  }
  expect_failures = [var.jurisdictions]
}

run "refuses_links_to_no_jurisdiction" {
  command = plan
  variables {
    global_account_id = "111111111111"
  }
  expect_failures = [var.global_account_id]
}
