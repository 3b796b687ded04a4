"""What the tests in Python share: an SES with a configuration set that can be stopped, and what it has accepted."""

import json
import os
import unittest
import urllib.request
import uuid

import boto3

FROM = "news@news.example.com"


class SesTest(unittest.TestCase):
    """Has two configuration sets of its own: `self.stopped`, which it stops and resumes, and `self.other`."""

    def setUp(self):
        self.ses = boto3.client("sesv2")
        mark = uuid.uuid4().hex[:8]
        self.stopped, self.other = f"newsletter-{mark}", f"receipts-{mark}"
        for name in (self.stopped, self.other):
            self.ses.create_configuration_set(ConfigurationSetName=name)
        try:
            self.ses.create_email_identity(EmailIdentity=FROM)
        except self.ses.exceptions.AlreadyExistsException:
            pass

    def switch(self, enabled):
        self.ses.put_configuration_set_sending_options(ConfigurationSetName=self.stopped, SendingEnabled=enabled)

    def accepted(self):
        """The subjects of all mails that SES has accepted with this test's subjects, one for each time."""
        with urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/_ministack/ses/messages") as answer:
            [messages] = json.load(answer)["messages"].values() or [[]]
        return [message["Subject"] for message in messages if self.stopped in message["Subject"]]

    def subject(self, number):
        return f"{number} of {self.stopped}"
