# frozen_string_literal: true

# A stand-in for the SDK: what infra/applications/ruby/sender.rb uses of it.
module Aws
  module SESV2
    module Errors
      # As the SDK has it: an error knows its code.
      class ServiceError < RuntimeError
        attr_reader :code

        def initialize(code)
          super("refused: #{code}")
          @code = code
        end
      end
    end

    # Refuses mail by configuration set.
    class Client
      attr_accessor :refused, :calls
      attr_reader :accepted

      def initialize
        @refused = {}
        @accepted = []
        @calls = 0
      end

      def send_email(mail)
        @calls += 1
        code = refused[mail.fetch(:configuration_set_name)]
        raise Errors::ServiceError, code if code

        accepted << mail.fetch(:id)
        Struct.new(:message_id).new("m#{mail.fetch(:id)}")
      end
    end
  end
end
