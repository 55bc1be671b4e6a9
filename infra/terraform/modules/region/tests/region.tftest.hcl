# What a region is made of. The cloud is mocked: values that it would give are made up, the provider's own checks are real.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region         = "eu-central-1"
  jurisdiction   = "eu"
  lawful         = ["eu-central-1", "eu-west-1"]
  account_id     = "222222222222"
  pair           = "eu-west-1"
  backup_region  = "eu-west-1"
  cidr           = "10.20.0.0/16"
  pair_cidr      = "10.21.0.0/16"
  facility_cidrs = { berlin = "10.200.1.0/24" }
  image_id       = "ami-0123456789abcdef0"
  domain         = "eu.mesh.example.org"
  zone_id        = "Z0000000000EU"
  authority_arn  = "arn:aws:acm-pca:eu-central-1:222222222222:certificate-authority/00000000-0000-0000-0000-000000000000"
  uplink_url     = "https://global.mesh.example.org:7443"
  uplink_service = "com.amazonaws.vpce.eu-west-1.vpce-svc-0123456789abcdef0"
  uplink_region  = "eu-west-1"
  budget_usd     = 5000
  alarm_email    = "operator@example.org"
}

run "every_store_has_the_key_of_the_region" {
  command = plan
  variables {
    key_arn = "arn:aws:kms:eu-central-1:222222222222:key/own"
  }
  assert {
    condition = length(distinct([
      aws_rds_cluster.fhir.kms_key_id, aws_rds_cluster.fhir.master_user_secret_kms_key_id,
      aws_msk_cluster.this.encryption_info[0].encryption_at_rest_kms_key_arn, one(aws_instance.scylla["a"].root_block_device).kms_key_id,
      aws_cloudwatch_log_group.this["postgres"].kms_key_id, module.place.key_arn, var.key_arn,
    ])) == 1
    error_message = "PostgreSQL, its secret, Kafka, disks and logs have one key"
  }
  assert {
    condition     = aws_rds_cluster.fhir.storage_encrypted
    error_message = "everything at rest is encrypted"
  }
}

run "nothing_is_public" {
  command = plan
  assert {
    condition     = aws_lb.this.internal && aws_lb.pair.internal && alltrue([for instance in aws_rds_cluster_instance.fhir : !instance.publicly_accessible])
    error_message = "no address is public"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.facility : rule.cidr_ipv4 == "10.200.1.0/24"])
    error_message = "only facilities come in"
  }
}

run "a_store_is_spread_over_three_zones" {
  command = plan
  assert {
    condition     = length(distinct([for instance in aws_rds_cluster_instance.fhir : instance.availability_zone])) == 3 && length(distinct([for machine in aws_instance.scylla : machine.tags["Name"]])) == 3 && aws_msk_cluster.this.number_of_broker_nodes == 3
    error_message = "a zone each"
  }
}

run "two_nodes_serve_and_each_is_found_by_the_other" {
  command = plan
  assert {
    condition     = output.node_groups == { a = "medmesh-node-a", b = "medmesh-node-b" } && keys(output.node_configs) == ["a", "b"]
    error_message = "a machine each"
  }
  assert {
    condition     = { for name, listener in aws_lb_listener.node : name => listener.port } == { https = 8443, grpc = 7443, https-a = 8444, grpc-a = 7444, https-b = 8445, grpc-b = 7445 }
    error_message = "both together, and each alone"
  }
  assert {
    condition     = alltrue([for group in aws_lb_target_group.shared : one(group.health_check).protocol == "HTTP" && one(group.health_check).path == "/ready" && one(group.health_check).port == "9080"])
    error_message = "clients and facilities come to a node that can serve"
  }
}

run "the_loss_of_one_node_leads_nobody_to_another_region" {
  command = plan
  assert {
    condition     = length(aws_lb_target_group.shared) == 2 && alltrue([for name, group in aws_lb_target_group.shared : length(module.nodes.listeners.shared[name].nodes) == 2])
    error_message = "every group of the balancer that Route 53 looks at has both nodes"
  }
  assert {
    condition     = !one(aws_route53_record.pair.alias).evaluate_target_health && aws_cloudwatch_metric_alarm.this["nodes"].threshold == 2
    error_message = "people are told of it"
  }
}

run "failover_stays_in_the_zone_of_the_jurisdiction" {
  command = plan
  assert {
    condition     = alltrue([for record in aws_route53_record.ingest : record.zone_id == var.zone_id && one(record.alias).zone_id == var.zone_id && endswith(one(record.alias).name, ".eu.mesh.example.org")])
    error_message = "both ends of a failover are in one jurisdiction"
  }
}

run "one_ring_of_scylladb_over_the_pair_and_nowhere_else" {
  command = plan
  assert {
    condition     = output.keyspaces == "ALTER KEYSPACE system_auth WITH replication = {'class': 'NetworkTopologyStrategy', 'eu-central-1': 3, 'eu-west-1': 3};\nCREATE KEYSPACE IF NOT EXISTS medmesh WITH replication = {'class': 'NetworkTopologyStrategy', 'eu-central-1': 3, 'eu-west-1': 3};\n"
    error_message = "copies in the two regions of the pair alone"
  }
  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.ring) == ["10.21.0.10", "10.21.16.10", "10.21.32.10"] && alltrue([for rule in aws_vpc_security_group_ingress_rule.ring : rule.from_port == 7001 && rule.to_port == 7001])
    error_message = "nothing of the pair comes in but its ScyllaDB, over TLS"
  }
  assert {
    condition     = alltrue([for zone, machine in aws_instance.scylla : strcontains(machine.user_data, "rack=eu-central-1${zone}") && strcontains(machine.user_data, "dc=eu-central-1") && strcontains(machine.user_data, "seeds: \"10.20.0.10,10.21.0.10\"") && strcontains(machine.user_data, "cluster_name: medmesh-eu-central-1-eu-west-1\n")])
    error_message = "a rack a zone, and seeds in both regions"
  }
}

run "a_region_refers_to_nothing_elsewhere" {
  command = plan
  module {
    source = "../residency"
  }
  variables {
    pair           = "us-east-1"
    retention_days = 35
  }
  expect_failures = [var.pair]
}

run "no_topic_of_kafka_comes_to_be_by_itself_and_one_that_is_made_has_three_copies" {
  command = plan
  assert {
    condition = length(setsubtract([
      "auto.create.topics.enable=false", "default.replication.factor=3", "min.insync.replicas=2",
      "unclean.leader.election.enable=false", "allow.everyone.if.no.acl.found=false", "log.retention.hours=168",
    ], split("\n", aws_msk_configuration.this.server_properties))) == 0
    error_message = "what every topic has that does not say otherwise"
  }
}
