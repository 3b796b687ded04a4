import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import software.amazon.awssdk.awscore.exception.AwsErrorDetails;
import software.amazon.awssdk.services.sesv2.SesV2Client;
import software.amazon.awssdk.services.sesv2.model.SendEmailRequest;
import software.amazon.awssdk.services.sesv2.model.SesV2Exception;

/** Sends mails through SES, and keeps them while their configuration set is stopped. */
public final class Sender {
    private static final System.Logger LOG = System.getLogger(Sender.class.getName());
    private static final Duration FIRST_WAIT = Duration.ofMinutes(5);
    private static final Duration LONGEST_WAIT = Duration.ofMinutes(30);

    /** Your durable queue. */
    public interface Outbox {
        /** Removes a mail from the queue. */
        void sent(SendEmailRequest mail, String messageId);

        /** Leaves a mail in the queue, to be sent again at this time or later. */
        void keep(SendEmailRequest mail, Instant notBefore);
    }

    /** When to ask SES again about a set that is stopped, and the wait until then. */
    private record Stop(Instant askAt, Duration delay) {}

    private final SesV2Client ses;
    private final Outbox outbox;
    private final Map<String, Stop> stopped = new ConcurrentHashMap<>();

    public Sender(SesV2Client ses, Outbox outbox) {
        this.ses = ses;
        this.outbox = outbox;
    }

    /** Sends a mail with a configuration set. */
    public void send(SendEmailRequest mail, Instant now) {
        String name = mail.configurationSetName();
        Stop stop = stopped.get(name);
        if (stop == null || !now.isBefore(stop.askAt())) {
            Optional<String> messageId = accepted(mail);
            if (messageId.isPresent()) {
                stopped.remove(name);
                outbox.sent(mail, messageId.get());
                return;
            }
            Duration wait = stop == null ? FIRST_WAIT : stop.delay().multipliedBy(2);
            wait = wait.compareTo(LONGEST_WAIT) > 0 ? LONGEST_WAIT : wait;
            stop = new Stop(now.plus(wait), wait);
            stopped.put(name, stop);
            LOG.log(System.Logger.Level.WARNING,
                "configuration set {0} is stopped: its mail is kept; SES is asked again at {1}", name, stop.askAt());
        }
        // Spread over the next wait, so that kept mail does not come back all at once.
        outbox.keep(mail, stop.askAt().plusMillis(ThreadLocalRandom.current().nextLong(stop.delay().toMillis())));
    }

    /** The message id, or nothing if the set is stopped. Every other error is thrown. */
    private Optional<String> accepted(SendEmailRequest mail) {
        try {
            return Optional.of(ses.sendEmail(mail).messageId());
        } catch (SesV2Exception error) {
            // SendingPausedException in API v2; longer names with this end in v1.
            AwsErrorDetails details = error.awsErrorDetails();
            if (details != null && String.valueOf(details.errorCode()).endsWith("SendingPausedException")) {
                return Optional.empty();
            }
            throw error;
        }
    }
}
