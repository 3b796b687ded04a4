# frozen_string_literal: true

require "aws-sdk-sesv2"
require "logger"

# Sends mails through SES, and keeps them while their configuration set is stopped.
#
# `ses` is an Aws::SESV2::Client. `outbox` is your durable queue. It has two methods:
#
# `sent(mail, message_id)` removes a mail from the queue.
# `keep(mail, not_before)` leaves it there, to be sent again at that time or later.
#
# A mail is the parameters of `send_email`, with `configuration_set_name`.
class Sender
  FIRST_WAIT = 5 * 60
  LONGEST_WAIT = 30 * 60

  # When to ask SES again about a set that is stopped, and the wait until then.
  Stop = Struct.new(:ask_at, :wait)

  def initialize(ses, outbox, log: Logger.new($stderr))
    @ses = ses
    @outbox = outbox
    @log = log
    @stopped = {}
  end

  def send_mail(mail, now: Time.now)
    name = mail.fetch(:configuration_set_name)
    stop = @stopped[name]
    if stop.nil? || now >= stop.ask_at
      if (message_id = accepted(mail))
        @stopped.delete(name)
        return @outbox.sent(mail, message_id)
      end
      wait = stop ? [2 * stop.wait, LONGEST_WAIT].min : FIRST_WAIT
      stop = @stopped[name] = Stop.new(now + wait, wait)
      @log.warn("configuration set #{name} is stopped: its mail is kept; SES is asked again at #{stop.ask_at}")
    end
    # Spread over the next wait, so that kept mail does not come back all at once.
    @outbox.keep(mail, stop.ask_at + rand * stop.wait)
  end

  private

  # The message id, or nil if the set is stopped. Every other error is raised.
  def accepted(mail)
    @ses.send_email(mail).message_id
  rescue Aws::SESV2::Errors::ServiceError => error
    # SendingPausedException in API v2; longer names with this end in v1.
    raise unless error.code.to_s.end_with?("SendingPausedException")
  end
end
