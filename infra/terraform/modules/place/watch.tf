# Logs for a year under the place's key; what nodes say of themselves, with the mesh's own rules (infra/observability), so that
# what is at stake for patients is told to people too; who is told of alarms; a budget.
resource "aws_cloudwatch_log_group" "this" {
  for_each          = { node = "/medmesh/node", flow = "/medmesh/flow" }
  name              = each.value
  retention_in_days = 365
  kms_key_id        = local.key_arn
  tags              = var.tags
}

resource "aws_sns_topic" "alarms" {
  name              = "${local.name}-alarms"
  kms_master_key_id = local.key_arn
  tags              = var.tags
}

# Who may tell: alarms of the cloud, and those of the rules.
resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Alarms"
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "aps.amazonaws.com"] }
      Action    = ["sns:Publish", "sns:GetTopicAttributes"]
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_prometheus_workspace" "this" {
  alias       = local.name
  kms_key_arn = local.key_arn
  tags        = var.tags
}

resource "aws_prometheus_rule_group_namespace" "rules" {
  name         = local.name
  workspace_id = aws_prometheus_workspace.this.id
  data         = file("${path.module}/../../../observability/rules.yaml")
}

resource "aws_prometheus_alert_manager_definition" "this" {
  workspace_id = aws_prometheus_workspace.this.id
  definition = yamlencode({
    alertmanager_config = yamlencode({
      route     = { receiver = "people", group_by = ["alertname", "instance"], group_wait = "10s", repeat_interval = "4h" }
      receivers = [{ name = "people", sns_configs = [{ topic_arn = aws_sns_topic.alarms.arn, sigv4 = { region = var.region } }] }]
    })
  })
}

resource "aws_sns_topic_subscription" "alarms" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "backups" {
  alarm_name          = "${local.name}-backups"
  alarm_description   = "P3: a backup has failed"
  namespace           = "AWS/Backup"
  metric_name         = "NumberOfBackupJobsFailed"
  dimensions          = { BackupVaultName = aws_backup_vault.this.name }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 3600
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}

resource "aws_budgets_budget" "this" {
  name         = "${local.name}-${var.region}"
  budget_type  = "COST"
  limit_amount = tostring(var.budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"
  tags         = var.tags

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
