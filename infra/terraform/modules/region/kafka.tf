# The region's stream: Kafka over mTLS alone, a broker a zone, nothing public. No topic comes to be by itself; one that somebody
# makes has three copies, of which two have what is acknowledged, and keeps it for a week unless it says otherwise.
resource "aws_msk_configuration" "this" {
  name           = "${local.name}-${var.region}"
  kafka_versions = ["3.8.x"]
  server_properties = join("\n", [
    "auto.create.topics.enable=false",
    "default.replication.factor=3",
    "min.insync.replicas=2",
    "unclean.leader.election.enable=false",
    "log.retention.hours=168",
    "allow.everyone.if.no.acl.found=false",
  ])
}

resource "aws_msk_cluster" "this" {
  cluster_name           = "${local.name}-${var.region}"
  kafka_version          = "3.8.x"
  number_of_broker_nodes = 3
  enhanced_monitoring    = "PER_BROKER"
  tags                   = local.tags

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }
  broker_node_group_info {
    instance_type   = var.sizes.kafka
    client_subnets  = [for subnet in module.place.subnets : subnet.id]
    security_groups = [aws_security_group.kafka.id]
    connectivity_info {
      public_access {
        type = "DISABLED"
      }
    }
    storage_info {
      ebs_storage_info {
        volume_size = var.sizes.kafka_disk
      }
    }
  }
  client_authentication {
    unauthenticated = false
    tls {
      certificate_authority_arns = [var.authority_arn]
    }
  }
  encryption_info {
    encryption_at_rest_kms_key_arn = local.key_arn
    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }
  open_monitoring {
    prometheus {
      jmx_exporter {
        enabled_in_broker = true
      }
      node_exporter {
        enabled_in_broker = true
      }
    }
  }
  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.this["kafka"].name
      }
    }
  }

  lifecycle {
    prevent_destroy = true
    # guard: kafka-made-elsewhere
    postcondition {
      condition     = strcontains(self.arn, ":${var.region}:")
      error_message = "RESIDENCY: ${self.cluster_name} was made outside ${var.region}: ${self.arn}."
    }
  }
}
