# frozen_string_literal: true

# infra/applications/ruby/sender.rb, whose path is the argument, with a stand-in for the SDK.
load ARGV.fetch(0)

def expect(what)
  abort "wrong: #{what}" unless yield
end

# A queue in memory.
class Outbox
  attr_reader :kept

  def initialize
    @kept = {}
  end

  def sent(mail, _message_id)
    kept.delete(mail[:id])
  end

  def keep(mail, not_before)
    kept[mail[:id]] = not_before
  end
end

ses = Aws::SESV2::Client.new
outbox = Outbox.new
sender = Sender.new(ses, outbox, log: Logger.new(File::NULL))
mail = ->(id, set) { { id: id, configuration_set_name: set } }
start = Time.at(1_800_000_000)

%w[SendingPausedException ConfigurationSetSendingPausedException].each do |code|
  ses.refused = { "newsletter" => code }
  ses.calls = 0
  sender.send_mail(mail[1, "newsletter"], now: start)
  sender.send_mail(mail[2, "newsletter"], now: start)
  sender.send_mail(mail[3, "receipts"], now: start)
  expect("SES is asked once about a stopped set") { ses.calls == 2 }
  expect("both are kept") { outbox.kept.keys == [1, 2] }
  expect("kept for 5 to 10 minutes") { outbox.kept.values.all? { |at| (at - start).between?(300, 600) } }
  sender.send_mail(mail[1, "newsletter"], now: start + 600)
  expect("the second wait is twice as long") { outbox.kept[1] >= start + 1200 }
  ses.refused = {}
  start += 100_000
  sender.send_mail(mail[1, "newsletter"], now: start)
  sender.send_mail(mail[2, "newsletter"], now: start)
  expect("nothing is left") { outbox.kept.empty? }
  expect("each is sent once") { ses.accepted == [3, 1, 2] }
  ses.accepted.clear
end

ses.refused = { "newsletter" => "TooManyRequestsException" }
begin
  sender.send_mail(mail[4, "newsletter"], now: start)
  abort "wrong: another error is raised"
rescue Aws::SESV2::Errors::ServiceError => error
  expect("the error is the SDK's") { error.code == "TooManyRequestsException" }
end
expect("nothing is kept for another error") { outbox.kept.empty? }
