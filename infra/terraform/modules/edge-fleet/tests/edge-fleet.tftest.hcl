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

run "a_facility_is_given_the_configuration_of_its_node" {
  command = plan
  assert {
    condition     = strcontains(output.node_configs["berlin"], "url = \"https://ingest.eu-central-1.eu.mesh.example.org:7443\"")
    error_message = "it delivers to its region"
  }
  assert {
    condition     = aws_ssm_parameter.config["berlin"].key_id == var.key_arn && aws_ssm_parameter.config["berlin"].type == "SecureString"
    error_message = "the configuration is kept under the key of the region"
  }
}
