"""infra/applications/django/tasks.py with django-ses, against an SES."""

import os
from unittest.mock import patch

import celery
import django
from botocore.exceptions import ClientError
from celery.exceptions import Retry
from django.conf import settings
from ses import FROM, SesTest

settings.configure(
    EMAIL_BACKEND="django_ses.SESBackend",
    USE_SES_V2=True,
    AWS_SES_REGION_NAME=os.environ["AWS_REGION"],
    AWS_SES_REGION_ENDPOINT_URL=os.environ["AWS_ENDPOINT_URL"],
    AWS_SES_AUTO_THROTTLE=None,
)
django.setup()
celery.Celery("test", broker="memory://").set_default()

from tasks import send_mail  # noqa: E402  Django must be set up first


class DjangoTest(SesTest):
    def send(self, number, name, retries=0, sender=FROM):
        """Runs the task as a worker does. Returns the seconds until its next try, or None."""
        send_mail.push_request(retries=retries, called_directly=False)
        try:
            with patch.object(send_mail, "apply_async"), patch.object(send_mail, "signature_from_request") as again:
                send_mail.run(name, self.subject(number), "Hello.", sender, ["reader@example.org"])
        except Retry as retry:
            again.return_value.apply_async.assert_called_once()
            return retry.when
        finally:
            send_mail.pop_request()
        return None

    def test_mail_of_a_stopped_set_is_tried_again_without_a_limit_and_sent_once(self):
        self.switch(False)
        self.assertIsNone(self.send(0, self.other))
        for retries, shortest in [(0, 300), (1, 600), (2, 1200), (3, 1200), (100, 1200)]:
            wait = self.send(1, self.stopped, retries)
            self.assertTrue(shortest <= wait <= 1.25 * shortest, wait)
        self.switch(True)
        self.assertIsNone(self.send(1, self.stopped, 101))
        self.assertEqual(self.accepted(), [self.subject(0), self.subject(1)])

    def test_other_errors_are_raised(self):
        with self.assertRaises(ClientError) as raised:
            self.send(0, self.stopped, sender="who@unverified.example.net")
        self.assertEqual(raised.exception.response["Error"]["Code"], "MessageRejected")
