"""Sends mails through SES, and keeps them while their configuration set is stopped."""

import logging
import random
from datetime import timedelta

from botocore.exceptions import ClientError

FIRST_WAIT = timedelta(minutes=5)
LONGEST_WAIT = timedelta(minutes=30)


class Sender:
    """`ses` is `boto3.client("sesv2")`. `outbox` is your durable queue. It has two methods:

    `sent(mail, message_id)` removes a mail from the queue.
    `keep(mail, not_before)` leaves it there, to be sent again at that time or later.

    A mail is the arguments of `send_email`, with `ConfigurationSetName`.
    """

    def __init__(self, ses, outbox):
        self._ses = ses
        self._outbox = outbox
        # When to ask SES again about a set that is stopped, and the wait until then.
        self._stopped = {}

    def send(self, mail, now):
        name = mail["ConfigurationSetName"]
        ask_at, wait = self._stopped.get(name, (now, None))
        if now >= ask_at:
            try:
                answer = self._ses.send_email(**mail)
            except ClientError as error:
                # SendingPausedException in API v2; longer names with this end in v1.
                if not error.response["Error"]["Code"].endswith("SendingPausedException"):
                    raise
                wait = min(2 * wait, LONGEST_WAIT) if wait else FIRST_WAIT
                ask_at = now + wait
                self._stopped[name] = (ask_at, wait)
                logging.warning("configuration set %s is stopped: its mail is kept; SES is asked again at %s", name, ask_at)
            else:
                self._stopped.pop(name, None)
                self._outbox.sent(mail, answer["MessageId"])
                return
        # Spread over the next wait, so that kept mail does not come back all at once.
        self._outbox.keep(mail, ask_at + wait * random.random())
