mock_provider "aws" {
  mock_resource "aws_ebs_volume" {
    defaults = { arn = "arn:aws:ec2:eu-central-1:222222222222:volume/vol-0123", id = "vol-0123" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::222222222222:role/medmesh" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

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

# What is written to the machine's own disk goes with the machine.
run "the_node_starts_only_where_the_disk_that_outlives_its_machine_is_mounted" {
  command = plan
  override_resource {
    target          = aws_ebs_volume.this
    override_during = plan
    values          = { id = "vol-0123", arn = "arn:aws:ec2:eu-central-1:222222222222:volume/vol-0123" }
  }
  assert {
    condition = length([
      for step in yamldecode(base64decode(aws_launch_template.this.user_data)).runcmd : step
      if !can(regex("(?s)^set -eu\n.*attach-volume .*--volume-id vol-0123 .*blkid .*mkfs.ext4 .*enable --now var-lib-medmesh.mount\n.*enable --now medmesh@regional\n", step))
    ]) == 0
    error_message = "one script that ends with its first failed step: attach, a file system where there is none, mount, start"
  }
  assert {
    condition = join("", [
      for file in yamldecode(base64decode(aws_launch_template.this.user_data)).write_files :
      file.content if endswith(file.path, "medmesh@regional.service.d/disk.conf")
    ]) == "[Unit]\nRequires=var-lib-medmesh.mount\nAfter=var-lib-medmesh.mount\n"
    error_message = "after each boot the node waits for its disk"
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.this.policy).Statement[0].Resource == ["arn:aws:ec2:eu-central-1:222222222222:volume/vol-0123"]
    error_message = "it may take its own disk and no other"
  }
  assert {
    condition     = [for one in jsondecode(aws_iam_role_policy.this.policy).Statement : [one.Resource, one.Condition.StringEquals["kms:ViaService"]] if contains(one.Action, "kms:CreateGrant")] == [[[var.key_arn], "ec2.eu-central-1.amazonaws.com"]]
    error_message = "and have it opened with its key, for nothing but a disk"
  }
}

run "the_machine_is_given_the_configuration_and_what_tells_the_balancer" {
  command = plan
  override_resource {
    target          = aws_ebs_volume.this
    override_during = plan
    values          = { id = "vol-0123", arn = "arn:aws:ec2:eu-central-1:222222222222:volume/vol-0123" }
  }
  assert {
    condition = [
      for file in yamldecode(base64decode(aws_launch_template.this.user_data)).write_files : base64decode(file.content) if endswith(file.path, "regional.toml")
    ] == [var.config]
    error_message = "the configuration, byte for byte"
  }
  assert {
    condition = join("", [
      for file in yamldecode(base64decode(aws_launch_template.this.user_data)).write_files : file.content if endswith(file.path, "medmesh-ready.socket")
    ]) == "[Unit]\nDescription=What the balancer asks of the MedMesh node\n[Socket]\nListenStream=9080\nAccept=yes\nMaxConnections=64\n[Install]\nWantedBy=sockets.target\n"
    error_message = "the balancer is answered at its port"
  }
}

# A database that is away, or a certificate that nobody has brought yet, is not mended by another machine.
run "what_the_node_says_of_itself_is_written_where_the_rules_are" {
  command = plan
  variables {
    metrics = { arn = "arn:aws:aps:eu-central-1:222222222222:workspace/ws-0", endpoint = "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-0/" }
  }
  override_resource {
    target          = aws_ebs_volume.this
    override_during = plan
    values          = { id = "vol-0123", arn = "arn:aws:ec2:eu-central-1:222222222222:volume/vol-0123" }
  }
  assert {
    condition = [
      for file in yamldecode(base64decode(aws_launch_template.this.user_data)).write_files : yamldecode(file.content).remote_write[0].url if endswith(file.path, "prometheus.yaml")
    ] == ["https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write"]
    error_message = "to the place's own workspace"
  }
  assert {
    condition     = [for one in jsondecode(aws_iam_role_policy.this.policy).Statement : one.Resource if one.Action == ["aps:RemoteWrite"]] == [[var.metrics.arn]]
    error_message = "and to no other"
  }
}

run "a_node_that_is_not_ready_costs_no_machine" {
  command = plan
  assert {
    condition     = aws_autoscaling_group.this.health_check_type == "EC2" && aws_autoscaling_group.this.min_size == 1 && aws_autoscaling_group.this.max_size == 1
    error_message = "one machine, replaced when the machine is broken"
  }
  assert {
    condition     = length(aws_autoscaling_group.this.instance_refresh) == 0
    error_message = "no replacement begins by itself"
  }
}

run "a_configuration_that_no_machine_takes_is_refused_in_the_plan" {
  command = plan
  variables {
    config = join("", [for _ in range(1000) : "# thirteen bytes"])
  }
  expect_failures = [aws_launch_template.this]
}
