output "release" {
  description = "The release of the template and the functions."
  value       = aws_cloudformation_stack.ses_breaker.outputs["Release"]
}

output "events_topic_arn" {
  description = "Where event destinations of configuration sets publish to."
  value       = aws_cloudformation_stack.ses_breaker.outputs["EventsTopicArn"]
}

output "alert_topic_arn" {
  description = "The alerts, for people."
  value       = aws_cloudformation_stack.ses_breaker.outputs["AlertTopicArn"]
}

output "chat_topic_arn" {
  description = "The alerts, for Amazon Q Developer in chat applications."
  value       = aws_cloudformation_stack.ses_breaker.outputs["ChatTopicArn"]
}

output "ledger_table_name" {
  description = "Every counted fact once. Stays when the stack is deleted."
  value       = aws_cloudformation_stack.ses_breaker.outputs["LedgerTableName"]
}

output "reputation_table_name" {
  description = "Rates, states, controls and the policy. Stays when the stack is deleted."
  value       = aws_cloudformation_stack.ses_breaker.outputs["ReputationTableName"]
}

output "dead_letter_queue_url" {
  description = "Events that could not be recorded, kept for 14 days."
  value       = aws_cloudformation_stack.ses_breaker.outputs["DeadLetterQueueUrl"]
}

output "key_arn" {
  description = "The key of the topics and tables."
  value       = aws_cloudformation_stack.ses_breaker.outputs["KeyArn"]
}

output "gate_url" {
  description = "Where your application asks for permits."
  value       = aws_cloudformation_stack.ses_breaker.outputs["GateUrl"]
}

output "gate_callers_policy_arn" {
  description = "The policy for roles of applications that ask the gate."
  value       = aws_cloudformation_stack.ses_breaker.outputs["GateCallersPolicyArn"]
}

output "viewer_policy_arn" {
  description = "The policy for roles of people who look."
  value       = aws_cloudformation_stack.ses_breaker.outputs["ViewerPolicyArn"]
}

output "operator_policy_arn" {
  description = "The policy for roles of people who also stop and resume."
  value       = aws_cloudformation_stack.ses_breaker.outputs["OperatorPolicyArn"]
}

output "held_mail_bucket_name" {
  description = "The bucket that relays hold mail in, or none."
  value       = aws_cloudformation_stack.ses_breaker.outputs["HeldMailBucketName"]
}

output "held_mail_topic_arn" {
  description = "The topic of alerts about held mail, or none."
  value       = aws_cloudformation_stack.ses_breaker.outputs["HeldMailTopicArn"]
}

output "relay_policy_arn" {
  description = "The policy for roles of relays that hold mail, or none."
  value       = aws_cloudformation_stack.ses_breaker.outputs["RelayPolicyArn"]
}

output "dashboard_url" {
  description = "The dashboard in the console."
  value       = aws_cloudformation_stack.ses_breaker.outputs["DashboardUrl"]
}
