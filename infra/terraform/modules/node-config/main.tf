# The configuration file of one node, as text (TOML). Pure. Every environment takes it from here, so that what runs on
# one machine reads the same keys as what runs in a cloud; `medmesh check-config` says whether it is a good one.
terraform {
  required_version = ">= 1.11, < 2.0"
}

locals {
  name_pattern = "^[a-z][a-z0-9-]{0,31}$"
  address      = "^[0-9.]+:[0-9]{1,5}$"
}
