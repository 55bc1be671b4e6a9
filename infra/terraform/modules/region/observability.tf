# Logs of the stores; alarms to people, by what is at stake (P1 is told by the nodes' own rules, infra/observability); and one
# look at everything of the region that the cloud measures.
resource "aws_cloudwatch_log_group" "this" {
  for_each          = { kafka = "/medmesh/kafka", postgres = "/aws/rds/cluster/${local.name}-${var.region}/postgresql" }
  name              = each.value
  retention_in_days = 365
  kms_key_id        = local.key_arn
  tags              = local.tags
}

locals {
  served = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.shared["https"].arn_suffix }
  alarms = merge({
    region = {
      namespace = "AWS/NetworkELB", metric = "HealthyHostCount", statistic = "Minimum", comparison = "LessThanThreshold", threshold = 1
      what      = "P2: the region does not answer", dimensions = local.served
    }
    nodes = {
      namespace = "AWS/NetworkELB", metric = "HealthyHostCount", statistic = "Minimum", comparison = "LessThanThreshold", threshold = 2
      what      = "P3: one of the two nodes cannot serve, and the other one is alone", dimensions = local.served
    }
    postgres = {
      namespace = "AWS/RDS", metric = "FreeLocalStorage", statistic = "Minimum", comparison = "LessThanThreshold", threshold = 5 * 1024 * 1024 * 1024
      what      = "P3: PostgreSQL runs out of disk", dimensions = { DBClusterIdentifier = aws_rds_cluster.fhir.cluster_identifier }
    }
    kafka = {
      namespace = "AWS/Kafka", metric = "OfflinePartitionsCount", statistic = "Maximum", comparison = "GreaterThanThreshold", threshold = 0
      what      = "P2: partitions of Kafka are offline", dimensions = { "Cluster Name" = aws_msk_cluster.this.cluster_name }
    }
    }, {
    for zone, machine in aws_instance.scylla : "scylla-${zone}" => {
      namespace = "AWS/EC2", metric = "StatusCheckFailed", statistic = "Maximum", comparison = "GreaterThanThreshold", threshold = 0
      what      = "P3: a machine of ScyllaDB is broken", dimensions = { InstanceId = machine.id }
    }
  })
  # Widgets of the dashboard: title, the series, and their statistic.
  panels = [
    { title = "Nodes that can serve", stat = "Minimum", metrics = [["AWS/NetworkELB", "HealthyHostCount", "LoadBalancer", aws_lb.this.arn_suffix, "TargetGroup", aws_lb_target_group.shared["https"].arn_suffix]] },
    { title = "Connections", stat = "Sum", metrics = [for name in ["NewFlowCount", "TCP_Target_Reset_Count"] : ["AWS/NetworkELB", name, "LoadBalancer", aws_lb.this.arn_suffix]] },
    { title = "PostgreSQL: connections", stat = "Maximum", metrics = [["AWS/RDS", "DatabaseConnections", "DBClusterIdentifier", aws_rds_cluster.fhir.cluster_identifier]] },
    { title = "PostgreSQL: time of a commit (ms)", stat = "Average", metrics = [["AWS/RDS", "CommitLatency", "DBClusterIdentifier", aws_rds_cluster.fhir.cluster_identifier]] },
    { title = "PostgreSQL: bytes", stat = "Maximum", metrics = [["AWS/RDS", "VolumeBytesUsed", "DBClusterIdentifier", aws_rds_cluster.fhir.cluster_identifier]] },
    { title = "Kafka", stat = "Maximum", metrics = [for name in ["OfflinePartitionsCount", "ActiveControllerCount"] : ["AWS/Kafka", name, "Cluster Name", aws_msk_cluster.this.cluster_name]] },
    { title = "ScyllaDB: machines' load (%)", stat = "Average", metrics = [for machine in aws_instance.scylla : ["AWS/EC2", "CPUUtilization", "InstanceId", machine.id]] },
    { title = "Nodes: machines' load (%)", stat = "Average", metrics = [for machine in module.machine : ["AWS/EC2", "CPUUtilization", "AutoScalingGroupName", machine.group]] },
  ]
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.what
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "breaching"
  alarm_actions       = [module.place.alarms_arn]
  ok_actions          = [module.place.alarms_arn]
  tags                = local.tags
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "${local.name}-${var.region}"
  dashboard_body = jsonencode({
    widgets = concat(
      [{ type = "alarm", x = 0, y = 0, width = 24, height = 3, properties = { title = "Alarms", alarms = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn] } }],
      [for index, panel in local.panels : {
        type       = "metric", x = 12 * (index % 2), y = 3 + 6 * floor(index / 2), width = 12, height = 6
        properties = { title = panel.title, region = var.region, view = "timeSeries", period = 60, stat = panel.stat, metrics = panel.metrics }
      }],
    )
  })
}
