mock_provider "aws" {}

variables {
  parent_id = "r-abcd"
  jurisdictions = {
    eu = { lawful = ["eu-central-1", "eu-west-1"] }
    us = { lawful = ["us-east-1", "us-west-2"] }
  }
}

run "every_region_of_another_law_is_denied" {
  command = plan
  assert {
    condition     = jsondecode(aws_organizations_policy.jurisdiction["eu"].content).Statement[0].Condition.StringNotEquals["aws:RequestedRegion"] == ["eu-central-1", "eu-west-1"] && jsondecode(aws_organizations_policy.jurisdiction["eu"].content).Statement[0].Effect == "Deny"
    error_message = "whatever is not in the jurisdiction is denied"
  }
  assert {
    condition     = length(aws_organizations_policy_attachment.jurisdiction) == 2
    error_message = "each is attached"
  }
}

run "refuses_no_region_of_two_laws" {
  command = plan
  variables {
    jurisdictions = {
      eu = { lawful = ["eu-central-1"] }
      us = { lawful = ["us-east-1", "eu-central-1"] }
    }
  }
  expect_failures = [var.jurisdictions]
}
