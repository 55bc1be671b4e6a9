# Logs for a year under the region's key; alarms to people; a budget.
resource "aws_cloudwatch_log_group" "this" {
  for_each          = { node = "/medmesh/node", flow = "/medmesh/flow", kafka = "/medmesh/kafka", postgres = "/aws/rds/cluster/${local.name}-${var.region}/postgresql" }
  name              = each.value
  retention_in_days = 365
  kms_key_id        = local.key_arn
  tags              = local.tags
}

resource "aws_sns_topic" "alarms" {
  name              = "${local.name}-alarms"
  kms_master_key_id = local.key_arn
  tags              = local.tags
}

resource "aws_sns_topic_subscription" "alarms" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = {
    node = {
      namespace  = "AWS/NetworkELB", metric = "HealthyHostCount", statistic = "Minimum", comparison = "LessThanThreshold", threshold = 1, what = "P2: the region does not answer"
      dimensions = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.node["https"].arn_suffix }
    }
    postgres = {
      namespace  = "AWS/RDS", metric = "FreeLocalStorage", statistic = "Minimum", comparison = "LessThanThreshold", threshold = 5 * 1024 * 1024 * 1024, what = "P3: PostgreSQL runs out of disk"
      dimensions = { DBClusterIdentifier = aws_rds_cluster.fhir.cluster_identifier }
    }
    kafka = {
      namespace  = "AWS/Kafka", metric = "OfflinePartitionsCount", statistic = "Maximum", comparison = "GreaterThanThreshold", threshold = 0, what = "P2: partitions of Kafka are offline"
      dimensions = { "Cluster Name" = aws_msk_cluster.this.cluster_name }
    }
  }
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
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = local.tags
}

resource "aws_budgets_budget" "this" {
  name         = "${local.name}-${var.region}"
  budget_type  = "COST"
  limit_amount = tostring(var.budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"
  tags         = local.tags

  cost_filter {
    name   = "Region"
    values = [var.region]
  }
  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }
    content {
      notification_type          = notification.key
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = [var.alarm_email]
    }
  }
}
