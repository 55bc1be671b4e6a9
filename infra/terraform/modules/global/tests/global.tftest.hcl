mock_provider "aws" {}

variables {
  parent_id         = "r-abcd"
  global_account_id = "444444444444"
  jurisdictions = {
    eu = { lawful = ["eu-central-1", "eu-west-1"], account_id = "222222222222" }
    us = { lawful = ["us-east-1", "us-west-2"], account_id = "111111111111" }
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

run "networks_are_joined_within_the_law_and_linked_to_the_global_node_alone" {
  command = plan
  assert {
    condition = [
      for one in jsondecode(output.policies["eu"]).Statement : one.Condition.ArnNotLike if startswith(one.Sid, "NoPeer")
      ] == [
      { "ec2:AccepterVpc" = ["arn:aws:ec2:eu-central-1:222222222222:vpc/*", "arn:aws:ec2:eu-west-1:222222222222:vpc/*"] },
      { "ec2:RequesterVpc" = ["arn:aws:ec2:eu-central-1:222222222222:vpc/*", "arn:aws:ec2:eu-west-1:222222222222:vpc/*"] },
    ]
    error_message = "whatever is no network of the jurisdiction is denied, at either end"
  }
  assert {
    condition     = [for one in jsondecode(output.policies["eu"]).Statement : one.Condition.StringNotEquals["ec2:VpceServiceOwner"] if one.Sid == "NoLinkElsewhere"] == [["amazon", "444444444444"]]
    error_message = "a link leads to the cloud's own services and to the global node"
  }
}
