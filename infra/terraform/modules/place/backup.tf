# Backups of the stores, in this region's own vault that nobody can empty, and a copy in another region of the same
# jurisdiction when one is named.
resource "aws_backup_vault" "this" {
  name        = local.name
  kms_key_arn = local.key_arn
  tags        = var.tags
}

resource "aws_backup_vault_lock_configuration" "this" {
  backup_vault_name  = aws_backup_vault.this.name
  min_retention_days = var.retention_days
}

resource "aws_backup_plan" "this" {
  name = local.name
  tags = var.tags

  rule {
    rule_name                = "daily"
    target_vault_name        = aws_backup_vault.this.name
    schedule                 = "cron(0 3 * * ? *)"
    start_window             = 60
    completion_window        = 300
    enable_continuous_backup = false
    recovery_point_tags      = var.tags

    lifecycle {
      delete_after = var.retention_days
    }
    dynamic "copy_action" {
      for_each = var.backup_region == var.region ? [] : [var.backup_region]
      content {
        destination_vault_arn = "arn:aws:backup:${copy_action.value}:${var.account_id}:backup-vault:${local.name}"
        lifecycle {
          delete_after = var.retention_days
        }
      }
    }
  }
}
