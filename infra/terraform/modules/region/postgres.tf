# The region's FHIR store, and what its two nodes share: PostgreSQL in three zones, TLS alone, with the region's key.
resource "aws_db_subnet_group" "this" {
  name       = local.name
  subnet_ids = [for subnet in module.place.subnets : subnet.id]
  tags       = local.tags
}

resource "aws_rds_cluster_parameter_group" "tls" {
  name        = "${local.name}-postgres16"
  family      = "aurora-postgresql16"
  description = "TLS alone"
  tags        = local.tags

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
}

resource "aws_rds_cluster" "fhir" {
  cluster_identifier                  = "${local.name}-${var.region}"
  engine                              = "aurora-postgresql"
  engine_version                      = "16.6"
  database_name                       = "medmesh"
  master_username                     = "medmesh"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = local.key_arn
  storage_encrypted                   = true
  kms_key_id                          = local.key_arn
  db_subnet_group_name                = aws_db_subnet_group.this.name
  vpc_security_group_ids              = [aws_security_group.postgres.id]
  db_cluster_parameter_group_name     = aws_rds_cluster_parameter_group.tls.name
  iam_database_authentication_enabled = true
  backup_retention_period             = var.retention_days
  preferred_backup_window             = "02:00-03:00"
  copy_tags_to_snapshot               = true
  deletion_protection                 = true
  skip_final_snapshot                 = false
  final_snapshot_identifier           = "${local.name}-${var.region}-last"
  enabled_cloudwatch_logs_exports     = ["postgresql"]
  tags                                = local.tags
  depends_on                          = [aws_cloudwatch_log_group.this]

  lifecycle {
    prevent_destroy = true
    # guard: postgres-made-elsewhere
    postcondition {
      condition     = strcontains(self.arn, ":${var.region}:")
      error_message = "RESIDENCY: ${self.cluster_identifier} was made outside ${var.region}: ${self.arn}."
    }
  }
}

# One that writes and two that stand by, each in a zone of its own.
resource "aws_rds_cluster_instance" "fhir" {
  for_each                        = local.zones
  identifier                      = "${local.name}-${each.value}"
  cluster_identifier              = aws_rds_cluster.fhir.id
  engine                          = aws_rds_cluster.fhir.engine
  engine_version                  = aws_rds_cluster.fhir.engine_version
  instance_class                  = var.sizes.postgres
  availability_zone               = each.value
  publicly_accessible             = false
  performance_insights_enabled    = true
  performance_insights_kms_key_id = local.key_arn
  monitoring_interval             = 30
  monitoring_role_arn             = aws_iam_role.this["database"].arn
  auto_minor_version_upgrade      = true
  tags                            = local.tags
}

resource "aws_backup_selection" "fhir" {
  name         = "${local.name}-postgres"
  plan_id      = module.place.backups.plan_id
  iam_role_arn = module.place.backups.role_arn
  resources    = [aws_rds_cluster.fhir.arn]
}
