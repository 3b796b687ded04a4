<?php

// infra/applications/php/Sender.php, whose path is the argument, with a stand-in for the SDK.

declare(strict_types=1);

namespace Aws\SesV2\Exception {
    class SesV2Exception extends \RuntimeException
    {
        public function __construct(private readonly string $awsErrorCode)
        {
            parent::__construct("refused: $awsErrorCode");
        }

        public function getAwsErrorCode(): string
        {
            return $this->awsErrorCode;
        }
    }
}

namespace Aws\SesV2 {
    class SesV2Client
    {
        /** @var array<string, string> The error by configuration set. */
        public array $refused = [];
        public array $accepted = [];
        public int $calls = 0;

        public function sendEmail(array $mail): array
        {
            $this->calls++;
            $code = $this->refused[$mail['ConfigurationSetName']] ?? null;
            if ($code !== null) {
                throw new Exception\SesV2Exception($code);
            }
            $this->accepted[] = $mail['id'];
            return ['MessageId' => "m{$mail['id']}"];
        }
    }
}

namespace {
    use Aws\SesV2\Exception\SesV2Exception;
    use Aws\SesV2\SesV2Client;

    require $argv[1];

    function expect(bool $holds, string $what): void
    {
        if (!$holds) {
            fwrite(STDERR, "wrong: $what\n");
            exit(1);
        }
    }

    $outbox = new class implements Outbox {
        public array $kept = [];
        public array $sent = [];

        public function sent(array $mail, string $messageId): void
        {
            unset($this->kept[$mail['id']]);
            $this->sent[] = $messageId;
        }

        public function keep(array $mail, int $notBefore): void
        {
            $this->kept[$mail['id']] = $notBefore;
        }
    };
    ini_set('error_log', '/dev/null');
    $ses = new SesV2Client();
    $sender = new Sender($ses, $outbox);
    $mail = fn (int $id, string $set) => ['id' => $id, 'ConfigurationSetName' => $set];
    $start = 1_800_000_000;

    foreach (['SendingPausedException', 'ConfigurationSetSendingPausedException'] as $code) {
        $ses->refused = ['newsletter' => $code];
        $ses->calls = 0;
        $sender->send($mail(1, 'newsletter'), $start);
        $sender->send($mail(2, 'newsletter'), $start);
        $sender->send($mail(3, 'receipts'), $start);
        expect($ses->calls === 2, 'SES is asked once about a stopped set');
        foreach ($outbox->kept as $notBefore) {
            expect($notBefore >= $start + 300 && $notBefore <= $start + 600, "kept until $notBefore");
        }
        expect(array_keys($outbox->kept) === [1, 2], 'both are kept');
        $sender->send($mail(1, 'newsletter'), $start + 600);
        expect($outbox->kept[1] >= $start + 1200, 'the second wait is twice as long');
        $ses->refused = [];
        $start += 100_000;
        $sender->send($mail(1, 'newsletter'), $start);
        $sender->send($mail(2, 'newsletter'), $start);
        expect($outbox->kept === [], 'nothing is left');
        expect($ses->accepted === [3, 1, 2], 'each is sent once');
        $ses->accepted = [];
    }
    $ses->refused = ['newsletter' => 'TooManyRequestsException'];
    try {
        $sender->send($mail(4, 'newsletter'), $start);
        expect(false, 'another error is thrown');
    } catch (SesV2Exception $error) {
        expect($error->getAwsErrorCode() === 'TooManyRequestsException', 'the error is the SDK\'s');
    }
    expect($outbox->kept === [], 'nothing is kept for another error');
}
