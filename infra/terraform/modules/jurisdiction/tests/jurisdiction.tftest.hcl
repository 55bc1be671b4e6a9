mock_provider "aws" {}

variables {
  jurisdiction = "eu"
  account_id   = "222222222222"
  domain       = "eu.mesh.example.org"
}

run "the_authority_and_the_key_stay_in_the_jurisdiction" {
  command = plan
  assert {
    condition     = !aws_kms_key.this.multi_region && aws_acmpca_certificate_authority.this.type == "ROOT"
    error_message = "an authority and a key of its own"
  }
  assert {
    condition     = aws_s3_bucket_public_access_block.revoked.block_public_policy && aws_s3_bucket_public_access_block.revoked.restrict_public_buckets
    error_message = "the bucket is not public"
  }
}

run "refuses_another_law" {
  command = plan
  variables {
    jurisdiction = "mars"
  }
  expect_failures = [var.jurisdiction]
}
