<?php

namespace App\Jobs\Middleware;

use Aws\Exception\AwsException;
use Closure;
use Symfony\Component\Mailer\Exception\TransportException;

/**
 * Puts a job that sends mail back into its queue while SES does not take mail with its configuration set.
 *
 * A job that uses it says how long its mail is worth sending, and limits other errors by their own number:
 *
 *     public int $maxExceptions = 3;
 *     public function middleware(): array { return [new KeepWhileStopped]; }
 *     public function retryUntil(): DateTimeInterface { return now()->addDays(2); }
 */
final class KeepWhileStopped
{
    public function handle(object $job, Closure $next): void
    {
        try {
            $next($job);
        } catch (TransportException $error) {
            // The transport `ses-v2` wraps the error of the SDK.
            $cause = $error->getPrevious();
            $code = $cause instanceof AwsException ? (string) $cause->getAwsErrorCode() : '';
            if (! str_ends_with($code, 'SendingPausedException')) {
                throw $error;
            }
            // 5, 10, then 20 minutes.
            $wait = 300 * 2 ** min($job->attempts() - 1, 2);
            $job->release(random_int($wait, intdiv(5 * $wait, 4)));
        }
    }
}
