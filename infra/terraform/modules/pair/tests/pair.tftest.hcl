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

run "a_way_leads_there_and_back" {
  command = plan
  assert {
    condition     = aws_vpc_peering_connection.this.peer_region == "eu-west-1" && aws_vpc_peering_connection.this.peer_owner_id == var.account_id
    error_message = "to the other region, in the same account"
  }
  assert {
    condition     = aws_route.there.destination_cidr_block == "10.21.0.0/16" && aws_route.there.route_table_id == "rtb-0" && aws_route.back.destination_cidr_block == "10.20.0.0/16" && aws_route.back.route_table_id == "rtb-1"
    error_message = "both ends know the way"
  }
}
