# The guards of residency of one region, apart from its resources: pure, so that each is tested by itself.
terraform {
  required_version = ">= 1.11, < 2.0"
}
