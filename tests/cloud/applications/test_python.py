"""infra/applications/python/send.py against an SES."""

import sys
from datetime import datetime, timedelta, timezone

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from ses import FROM, SesTest

from send import FIRST_WAIT, LONGEST_WAIT, Sender

START = datetime(2026, 11, 27, 9, 0, tzinfo=timezone.utc)


class Outbox:
    """A queue in memory: the mails in it, each with the time before which it is not sent."""

    def __init__(self, *mails):
        self.mails = [(mail, START) for mail in mails]
        self.ids = []

    def take(self, now):
        due = [mail for mail, not_before in self.mails if not_before <= now]
        return due[0] if due else None

    def sent(self, mail, message_id):
        self._drop(mail)
        self.ids.append(message_id)

    def keep(self, mail, not_before):
        self._drop(mail)
        self.mails.append((mail, not_before))

    def _drop(self, mail):
        self.mails = [(other, at) for other, at in self.mails if other is not mail]


class SendTest(SesTest):
    def setUp(self):
        super().setUp()
        self.calls = 0
        self.ses.meta.events.register("before-send.sesv2.SendEmail", self.count)

    def count(self, **_):
        self.calls += 1

    def mail(self, number, name):
        return {
            "FromEmailAddress": FROM,
            "Destination": {"ToAddresses": ["reader@example.org"]},
            "Content": {"Simple": {"Subject": {"Data": self.subject(number)}, "Body": {"Text": {"Data": "Hello."}}}},
            "ConfigurationSetName": name,
        }

    def work_off(self, sender, outbox, now):
        while (mail := outbox.take(now)) is not None:
            sender.send(mail, now)

    def test_mail_of_a_stopped_set_is_kept_and_sent_once_after_the_stop(self):
        mails = [self.mail(number, self.stopped) for number in range(20)] + [self.mail(20, self.other)]
        outbox = Outbox(*mails)
        sender = Sender(self.ses, outbox)

        self.switch(False)
        with self.assertLogs(level="WARNING") as logs:
            self.work_off(sender, outbox, START)
        self.assertEqual(len(logs.output), 1)
        self.assertIn(f"configuration set {self.stopped} is stopped", logs.output[0])
        self.assertEqual(self.accepted(), [self.subject(20)], "the other set is not affected")
        self.assertEqual(self.calls, 2, "SES is asked once about the stopped set, not once for each mail")
        self.assertEqual(len(outbox.mails), 20)
        for _, not_before in outbox.mails:
            self.assertTrue(START + FIRST_WAIT <= not_before <= START + 2 * FIRST_WAIT)

        # A stop of 30 minutes takes a handful of calls.
        now, end = START, START + timedelta(minutes=30)
        while now < end:
            self.work_off(sender, outbox, now)
            now += timedelta(seconds=20)
        self.assertLessEqual(self.calls, 6)
        self.assertEqual(len(outbox.mails), 20)

        self.switch(True)
        while outbox.mails:
            self.work_off(sender, outbox, now)
            now += timedelta(seconds=20)
        self.assertLessEqual(now - end, 2 * LONGEST_WAIT)
        self.assertEqual(sorted(self.accepted()), sorted(self.subject(number) for number in range(21)), "each once")
        self.assertEqual(len(set(outbox.ids)), 21)

    def test_other_errors_are_raised_and_nothing_is_marked_as_stopped(self):
        outbox = Outbox()
        sender = Sender(self.ses, outbox)
        unverified = self.mail(0, self.stopped) | {"FromEmailAddress": "who@unverified.example.net"}
        for mail, code in [(unverified, "MessageRejected"), (self.mail(1, "no-such-set"), "NotFoundException")]:
            with self.assertRaises(ClientError) as raised:
                sender.send(mail, START)
            self.assertEqual(raised.exception.response["Error"]["Code"], code)
        nowhere = boto3.client("sesv2", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))
        with self.assertRaises(EndpointConnectionError):
            Sender(nowhere, outbox).send(self.mail(2, self.stopped), START)
        self.assertEqual(outbox.mails, [])
        sender.send(self.mail(3, self.stopped), START)
        self.assertEqual(self.accepted(), [self.subject(3)])

    def test_the_sdk_does_not_repeat_a_refused_call(self):
        self.switch(False)
        for mode in ("legacy", "standard", "adaptive"):
            with self.subTest(mode):
                client = boto3.client("sesv2", config=Config(retries={"mode": mode, "max_attempts": 5}))
                client.meta.events.register("before-send.sesv2.SendEmail", self.count)
                self.calls = 0
                with self.assertRaises(client.exceptions.SendingPausedException) as raised:
                    client.send_email(**self.mail(0, self.stopped))
                self.assertEqual(self.calls, 1)
                self.assertEqual(raised.exception.response["ResponseMetadata"]["HTTPStatusCode"], 400)
