# Deploys the template of the package with CloudFormation: its resources are described there, and nowhere here.

# The code of the functions and the template. Nothing in it is secret; it is private all the same.
resource "aws_s3_bucket" "code" {
  bucket_prefix = "${var.name}-code-"
  force_destroy = true
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "code" {
  bucket                  = aws_s3_bucket.code.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "code" {
  bucket = aws_s3_bucket.code.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "code" {
  bucket     = aws_s3_bucket.code.id
  depends_on = [aws_s3_bucket_public_access_block.code]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "NothingWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.code.arn, "${aws_s3_bucket.code.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_s3_object" "function" {
  for_each = local.files

  bucket      = aws_s3_bucket.code.id
  key         = "${local.parameters.CodePrefix}${each.key}.zip"
  source      = each.value
  source_hash = filesha256(each.value)

  # The old code goes after the stack has been updated, because a rollback needs it.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_s3_object" "template" {
  bucket      = aws_s3_bucket.code.id
  key         = "template-${filesha256(local.template)}.yaml"
  source      = local.template
  source_hash = filesha256(local.template)

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudformation_stack" "ses_breaker" {
  name         = var.name
  template_url = "https://${aws_s3_bucket.code.bucket_regional_domain_name}/${aws_s3_object.template.key}"
  parameters   = merge(local.parameters, { CodeBucket = aws_s3_bucket.code.id })
  # Roles, and the SAM transform.
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  tags         = var.tags

  depends_on = [aws_s3_object.function, aws_s3_bucket_policy.code, aws_s3_bucket_ownership_controls.code]
}
