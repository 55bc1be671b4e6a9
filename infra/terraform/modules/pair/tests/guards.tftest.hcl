# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
mock_provider "aws" {}

mock_provider "aws" {
  alias = "other"
}

variables {
  jurisdiction = "eu"
  lawful       = ["eu-central-1", "eu-west-1"]
  account_id   = "222222222222"
  here         = { region = "eu-central-1", vpc_id = "vpc-0", cidr = "10.20.0.0/16", route_table_id = "rtb-0" }
  other        = { region = "eu-west-1", vpc_id = "vpc-1", cidr = "10.21.0.0/16", route_table_id = "rtb-1" }
}

run "refuses_here_lawful" {
  command = plan
  variables {
    here = { region = "us-east-1", vpc_id = "vpc-0", cidr = "10.10.0.0/16", route_table_id = "rtb-0" }
  }
  expect_failures = [var.here]
}

run "refuses_other_lawful" {
  command = plan
  variables {
    other = { region = "us-east-1", vpc_id = "vpc-1", cidr = "10.10.0.0/16", route_table_id = "rtb-1" }
  }
  expect_failures = [var.other]
}

run "refuses_networks_apart" {
  command = plan
  variables {
    other = { region = "eu-west-1", vpc_id = "vpc-1", cidr = "10.20.0.0/16", route_table_id = "rtb-1" }
  }
  expect_failures = [var.other]
}
