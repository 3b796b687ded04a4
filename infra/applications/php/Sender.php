<?php

declare(strict_types=1);

use Aws\SesV2\Exception\SesV2Exception;
use Aws\SesV2\SesV2Client;

/** Your durable queue. */
interface Outbox
{
    /** Removes a mail from the queue. */
    public function sent(array $mail, string $messageId): void;

    /** Leaves a mail in the queue, to be sent again at this time (Unix seconds) or later. */
    public function keep(array $mail, int $notBefore): void;
}

/** Sends mails through SES, and keeps them while their configuration set is stopped. */
final class Sender
{
    private const FIRST_WAIT = 5 * 60;
    private const LONGEST_WAIT = 30 * 60;

    /** @var array<string, array{int, int}> When to ask SES again about a set that is stopped, and the wait until then. */
    private array $stopped = [];

    public function __construct(private readonly SesV2Client $ses, private readonly Outbox $outbox)
    {
    }

    /** @param array $mail The arguments of sendEmail, with ConfigurationSetName. */
    public function send(array $mail, int $now): void
    {
        $name = $mail['ConfigurationSetName'];
        [$askAt, $wait] = $this->stopped[$name] ?? [$now, 0];
        if ($now >= $askAt) {
            $messageId = $this->accepted($mail);
            if ($messageId !== null) {
                unset($this->stopped[$name]);
                $this->outbox->sent($mail, $messageId);
                return;
            }
            $wait = $wait > 0 ? min(2 * $wait, self::LONGEST_WAIT) : self::FIRST_WAIT;
            $askAt = $now + $wait;
            $this->stopped[$name] = [$askAt, $wait];
            error_log("configuration set $name is stopped: its mail is kept; SES is asked again at " . date(DATE_ATOM, $askAt));
        }
        // Spread over the next wait, so that kept mail does not come back all at once.
        $this->outbox->keep($mail, $askAt + random_int(0, $wait));
    }

    /** The message id, or null if the set is stopped. Every other error is thrown. */
    private function accepted(array $mail): ?string
    {
        try {
            return $this->ses->sendEmail($mail)['MessageId'];
        } catch (SesV2Exception $error) {
            // SendingPausedException in API v2; longer names with this end in v1.
            if (str_ends_with((string) $error->getAwsErrorCode(), 'SendingPausedException')) {
                return null;
            }
            throw $error;
        }
    }
}
