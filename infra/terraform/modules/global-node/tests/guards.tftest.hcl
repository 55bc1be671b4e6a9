# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
mock_provider "aws" {}

variables {
  region      = "eu-west-1"
  account_id  = "444444444444"
  accounts    = ["111111111111", "222222222222"]
  regions     = ["us-east-1", "eu-central-1"]
  cidr        = "10.1.0.0/16"
  host        = "global.mesh.example.org"
  image_id    = "ami-0123456789abcdef0"
  budget_usd  = 1000
  alarm_email = "operator@example.org"
}

run "refuses_account_of_no_jurisdiction" {
  command = plan
  variables {
    account_id = "222222222222"
  }
  expect_failures = [var.account_id]
}

run "refuses_links_of_the_mesh" {
  command = plan
  variables {
    accounts = ["*"]
  }
  expect_failures = [var.accounts]
}

run "refuses_clients_on_the_disk" {
  command = plan
  variables {
    clients = [{ client_id = "reader", kid = "reader-1", public_key = "/etc/medmesh/reader.pem", scope = "mesh/*.rs" }]
  }
  expect_failures = [var.clients]
}
