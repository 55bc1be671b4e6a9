mock_provider "aws" {
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:444444444444:key/00000000-0000-0000-0000-000000000000" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::444444444444:role/medmesh" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:444444444444:loadbalancer/net/medmesh/1" }
  }
}

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

run "the_mesh_links_to_it_and_nobody_else_does" {
  command = plan
  assert {
    condition     = aws_vpc_endpoint_service.this.allowed_principals == toset(["arn:aws:iam::111111111111:root", "arn:aws:iam::222222222222:root"]) && aws_vpc_endpoint_service.this.supported_regions == var.regions && aws_vpc_endpoint_service.this.acceptance_required
    error_message = "the accounts of the jurisdictions, from the regions of the mesh"
  }
  assert {
    condition     = aws_lb.this.internal && output.uplink_url == "https://global.mesh.example.org:7443"
    error_message = "no address is public"
  }
}

run "the_node_is_given_its_configuration" {
  command = plan
  assert {
    condition     = strcontains(output.node_config, "grpc_listen = \"0.0.0.0:7443\"\n") && strcontains(output.node_config, "engine = \"sqlite\"\n") && !strcontains(output.node_config, "/etc/")
    error_message = "everything that it needs is on the disk that outlives the machine"
  }
}

run "what_the_node_says_of_itself_comes_to_the_rules_of_its_place" {
  command = plan
  override_resource {
    target          = module.place.aws_prometheus_workspace.this
    override_during = plan
    values = {
      arn                 = "arn:aws:aps:eu-west-1:444444444444:workspace/ws-0"
      prometheus_endpoint = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/"
    }
  }
  assert {
    condition     = module.machine.workspace == "arn:aws:aps:eu-west-1:444444444444:workspace/ws-0"
    error_message = "the machine writes what the node says, and rules look at it"
  }
}
