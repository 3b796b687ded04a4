import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import software.amazon.awssdk.services.sesv2.SesV2Client;
import software.amazon.awssdk.services.sesv2.model.SendEmailRequest;
import software.amazon.awssdk.services.sesv2.model.SendEmailResponse;
import software.amazon.awssdk.services.sesv2.model.SesV2Exception;

/** infra/applications/java/Sender.java with a stand-in for the SDK. Run it with assertions. */
final class SenderTest {
    private static final class Ses implements SesV2Client {
        private final Map<String, String> refused = new HashMap<>();
        private final List<Integer> accepted = new ArrayList<>();
        private int calls;

        @Override
        public SendEmailResponse sendEmail(SendEmailRequest request) {
            calls++;
            String code = refused.get(request.configurationSetName());
            if (code != null) {
                throw new SesV2Exception(code);
            }
            accepted.add(request.id());
            return new SendEmailResponse("m" + request.id());
        }
    }

    private static final class Memory implements Sender.Outbox {
        private final Map<Integer, Instant> kept = new HashMap<>();

        @Override
        public void sent(SendEmailRequest mail, String messageId) {
            kept.remove(mail.id());
        }

        @Override
        public void keep(SendEmailRequest mail, Instant notBefore) {
            kept.put(mail.id(), notBefore);
        }
    }

    public static void main(String[] arguments) {
        boolean asserting = false;
        assert asserting = true;
        if (!asserting) {
            throw new IllegalStateException("run it with -ea");
        }
        Ses ses = new Ses();
        Memory outbox = new Memory();
        Sender sender = new Sender(ses, outbox);
        Instant start = Instant.parse("2026-11-27T09:00:00Z");
        SendEmailRequest first = new SendEmailRequest(1, "newsletter");
        SendEmailRequest second = new SendEmailRequest(2, "newsletter");

        for (String code : List.of("SendingPausedException", "ConfigurationSetSendingPausedException")) {
            ses.refused.put("newsletter", code);
            ses.calls = 0;
            sender.send(first, start);
            sender.send(second, start);
            sender.send(new SendEmailRequest(3, "receipts"), start);
            assert ses.calls == 2 : "SES is asked once about a stopped set";
            assert outbox.kept.size() == 2 : "both are kept";
            for (Instant notBefore : outbox.kept.values()) {
                long minutes = Duration.between(start, notBefore).toMinutes();
                assert minutes >= 5 && minutes <= 10 : minutes;
            }
            sender.send(first, start.plus(Duration.ofMinutes(10)));
            assert !outbox.kept.get(1).isBefore(start.plus(Duration.ofMinutes(20))) : "the second wait is twice as long";
            ses.refused.clear();
            start = start.plus(Duration.ofDays(1));
            sender.send(first, start);
            sender.send(second, start);
            assert outbox.kept.isEmpty() : "nothing is left";
            assert ses.accepted.equals(List.of(3, 1, 2)) : "each is sent once";
            ses.accepted.clear();
        }
        ses.refused.put("newsletter", "TooManyRequestsException");
        try {
            sender.send(first, start);
            assert false : "another error is thrown";
        } catch (SesV2Exception error) {
            assert error.awsErrorDetails().errorCode().equals("TooManyRequestsException");
        }
        assert outbox.kept.isEmpty() : "nothing is kept for another error";
    }
}
