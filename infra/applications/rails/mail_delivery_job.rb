# frozen_string_literal: true

# Tries again for as long as the configuration set of a mail is stopped. For the delivery method `:ses_v2` of
# aws-actionmailer-ses. In config/application.rb: config.action_mailer.delivery_job = "MailDeliveryJob"
class MailDeliveryJob < ActionMailer::MailDeliveryJob
  # 5, 10, then 20 minutes. Without a limit: a stop may last a day, or until a person resumes the set. The limit of
  # Active Job is 5 attempts.
  retry_on Aws::SESV2::Errors::SendingPausedException,
           Aws::SESV2::Errors::ConfigurationSetSendingPausedException,
           attempts: :unlimited,
           wait: ->(executions) { (300 * 2**[executions - 1, 2].min * rand(1.0..1.25)).seconds }
end
