# A run `refuses_NAME` belongs to the guard NAME (with - for _) of variables.tf.
mock_provider "aws" {}

variables {
  name               = "node-a"
  tier               = "regional"
  region             = "eu-central-1"
  account_id         = "222222222222"
  zone               = "eu-central-1a"
  subnet_id          = "subnet-0123456789abcdef0"
  security_group_ids = ["sg-0123456789abcdef0"]
  target_group_arns  = []
  config             = "region = \"eu-central-1\"\n"
  ports              = { ready = 9080, asked = 9443 }
  image_id           = "ami-0123456789abcdef0"
  instance_type      = "m7g.large"
  disk_gb            = 100
  key_arn            = "arn:aws:kms:eu-central-1:222222222222:key/a"
  backups            = { plan_id = "0", role_arn = "arn:aws:iam::222222222222:role/medmesh-backup" }
  tags               = { system = "medmesh", jurisdiction = "eu" }
}

run "refuses_zone_here" {
  command = plan
  variables {
    zone = "us-east-1a"
  }
  expect_failures = [var.zone]
}

run "refuses_image" {
  command = plan
  variables {
    image_id = "debian-12"
  }
  expect_failures = [var.image_id]
}

run "refuses_disk_size" {
  command = plan
  variables {
    disk_gb = 0
  }
  expect_failures = [var.disk_gb]
}
