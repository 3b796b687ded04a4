#!/usr/bin/env python3
"""Sends mail with the unmodified SDK of AWS for Python, and with smtplib, through a relay; checks what arrives at an emulated SES.

    relay.py --relay URL --metrics URL --smtp ADDRESS
    relay.py --relay URL --metrics URL --smtp ADDRESS --released

The environment names the emulated SES (AWS_ENDPOINT_URL) and its credentials. The gate behind the relay grants mail of the
configuration set `news` at every ISP, sends what is more than the quota of `news` at Yahoo by `news-shared`, and has nothing left of
`codes` at Gmail. Mail of the set `held` that may not go now is held; with --released, a relay that was started anew has sent it.

Exit codes: 0 success, 1 failed.
"""

import argparse
import base64
import json
import os
import re
import smtplib
import sys
import time
import traceback
import urllib.request
from email.message import EmailMessage

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

FROM = '"News, Daily" <editor@news.example.com>'


class Checks:
    def __init__(self, arguments):
        # As an application would be pointed at it.
        relayed = {"AWS_ENDPOINT_URL_SESV2": arguments.relay, "AWS_ENDPOINT_URL_SES": arguments.relay}
        # What the caller signs with is not looked at.
        os.environ["EMULATOR_KEY"] = os.environ["AWS_ACCESS_KEY_ID"]
        relayed |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        os.environ.setdefault("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])
        self.direct_v1, self.direct = boto3.client("ses"), boto3.client("sesv2")
        os.environ.update(relayed)
        session = boto3.session.Session()
        self.v2, self.v1 = session.client("sesv2"), session.client("ses")
        self.session = session
        self.metrics_url = arguments.metrics
        self.emulator = os.environ["AWS_ENDPOINT_URL"]
        self.smtp = arguments.smtp
        if arguments.released:
            return
        # The emulated SES keeps the sets of its two APIs apart.
        for name in ("news", "news-shared", "codes", "held"):
            self.direct_v1.create_configuration_set(ConfigurationSet={"Name": name})
        for identity in ("news.example.com", "editor@news.example.com"):
            self.direct.create_email_identity(EmailIdentity=identity)

    def metrics(self):
        with urllib.request.urlopen(f"{self.metrics_url}/metrics") as answer:
            return answer.read().decode()

    def count(self, operation, outcome):
        """Mails of an operation with an outcome."""
        wanted = f'ses_relay_mails_total{{operation="{operation}",'
        lines = [line for line in self.metrics().splitlines() if line.startswith(wanted) and f'outcome="{outcome}"' in line]
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines)

    def v2_simple(self):
        answer = self.v2.send_email(
            FromEmailAddress=FROM,
            Destination={"ToAddresses": ["Reader <reader@yahoo.com>"], "CcAddresses": ["other@gmx.de"]},
            Content={"Simple": {"Subject": {"Data": "v2 simple é"}, "Body": {"Text": {"Data": "text"}}}},
            ConfigurationSetName="news",
            EmailTags=[{"Name": "ses-breaker-class", "Value": "critical"}],
        )
        assert answer["MessageId"] and answer["ResponseMetadata"]["HTTPStatusCode"] == 200, answer
        assert 'class="critical",isp="yahoo",outcome="sent"} 1' in self.metrics(), self.metrics()

    def mail(self, to):
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = FROM, to, "raw ü"
        mail["X-SES-CONFIGURATION-SET"] = "news"
        mail.set_content("text ü " * 10_000)
        return bytes(mail)

    def v2_raw(self):
        self.v2.send_email(Content={"Raw": {"Data": self.mail("reader@yahoo.com")}},
                           Destination={"ToAddresses": ["reader@yahoo.com", "hidden@web.de"]})
        assert self.count("v2 SendEmail", "sent") == 4, self.metrics()

    def v1_all(self):
        self.v1.send_email(
            Source=FROM, Destination={"ToAddresses": ["reader@yahoo.com"], "BccAddresses": ["a@gmx.de", "b@gmx.de"]},
            Message={"Subject": {"Data": "v1 + & = é"}, "Body": {"Html": {"Data": "<b>&amp;</b>"}}}, ConfigurationSetName="news")
        self.v1.send_raw_email(RawMessage={"Data": self.mail("reader@yahoo.com, third@web.de")})
        assert (self.count("v1 SendEmail", "sent"), self.count("v1 SendRawEmail", "sent")) == (3, 2), self.metrics()

    def templates(self):
        self.direct_v1.create_template(Template={"TemplateName": "hello", "SubjectPart": "Hello {{name}}", "TextPart": "{{name}}"})
        self.v1.send_templated_email(Source=FROM, Destination={"ToAddresses": ["reader@yahoo.com"]}, Template="hello",
                                     TemplateData='{"name": "A&B"}', ConfigurationSetName="news")
        assert self.count("v1 SendTemplatedEmail", "sent") == 1
        destinations = [{"Destination": {"ToAddresses": [f"r{n}@{domain}"]}, "ReplacementTemplateData": '{"name": "x"}'}
                        for n, domain in enumerate(["yahoo.com", "gmx.de", "web.de"])]
        answer = self.v1.send_bulk_templated_email(Source=FROM, Template="hello", DefaultTemplateData="{}",
                                                   Destinations=destinations, ConfigurationSetName="news")
        assert [entry["Status"] for entry in answer["Status"]] == ["Success"] * 3, answer
        entries = [{"Destination": {"ToAddresses": [f"r{n}@{domain}"]}}
                   for n, domain in enumerate(["yahoo.com", "gmail.com", "web.de"])]
        answer = self.v2.send_bulk_email(
            FromEmailAddress=FROM, DefaultContent={"Template": {"TemplateName": "hello", "TemplateData": '{"name": "x"}'}},
            BulkEmailEntries=entries, ConfigurationSetName="codes")
        statuses = [entry["Status"] for entry in answer["BulkEmailEntryResults"]]
        assert statuses == ["SUCCESS", "ACCOUNT_THROTTLED", "SUCCESS"], answer
        assert "gmail" in answer["BulkEmailEntryResults"][1]["Error"], answer

    def deferred(self):
        mail = dict(FromEmailAddress=FROM, Destination={"ToAddresses": ["reader@gmail.com"]}, ConfigurationSetName="codes",
                    Content={"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}})
        for mode in ("legacy", "standard", "adaptive"):
            client = self.session.client("sesv2", config=Config(retries={"mode": mode}))
            before, began = self.count("v2 SendEmail", "deferred"), time.monotonic()
            try:
                client.send_email(**mail)
                raise AssertionError("it was sent")
            except client.exceptions.TooManyRequestsException as error:
                response = error.response
            tries, took = self.count("v2 SendEmail", "deferred") - before, time.monotonic() - began
            headers = response["ResponseMetadata"]["HTTPHeaders"]
            assert int(headers["retry-after"]) >= 1 and "gmail" in response["Error"]["Message"], response
            print(f"deferred, {mode}: {tries} tries in {took:.1f} s, retry-after {headers['retry-after']} s")
        try:
            self.session.client("ses", config=Config(retries={"max_attempts": 0})).send_email(
                Source=FROM, Destination={"ToAddresses": ["reader@gmail.com"]}, ConfigurationSetName="codes",
                Message={"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}})
            raise AssertionError("it was sent")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "Throttling", error.response

    def overflow(self):
        self.v2.send_email(FromEmailAddress=FROM, Destination={"ToAddresses": ["reader@gmail.com", "reader@yahoo.com"]},
                           Content={"Simple": {"Subject": {"Data": "overflow"}, "Body": {"Text": {"Data": "t"}}}},
                           ConfigurationSetName="news")

    def stopped(self):
        self.direct.put_configuration_set_sending_options(ConfigurationSetName="news", SendingEnabled=False)
        try:
            self.v2.send_email(FromEmailAddress=FROM, Destination={"ToAddresses": ["reader@web.de"]}, ConfigurationSetName="news",
                               Content={"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}})
            raise AssertionError("it was sent")
        except ClientError as error:
            assert error.response["Error"]["Code"].endswith("SendingPausedException"), error.response
        self.direct.put_configuration_set_sending_options(ConfigurationSetName="news", SendingEnabled=True)
        assert self.count("v2 SendEmail", "refused") == 1

    def submitted(self):
        host, port = self.smtp.rsplit(":", 1)

        def mail(to):
            # smtplib leaves the line ends of bytes as they are.
            return self.mail(to).replace(b"\n", b"\r\n")

        with smtplib.SMTP(host, int(port)) as client:
            assert client.sendmail("bounces@news.example.com", ["reader@web.de"], mail("reader@web.de"),
                                   mail_options=["BODY=8BITMIME"]) == {}
            try:
                codes = mail("reader@gmail.com").replace(b"SET: news", b"SET: codes")
                client.sendmail("bounces@news.example.com", ["reader@gmail.com"], codes)
                raise AssertionError("it was sent")
            except smtplib.SMTPDataError as error:
                assert error.smtp_code == 451 and error.smtp_error.startswith(b"4.7.1 mail"), error
        assert (self.count("smtp", "sent"), self.count("smtp", "deferred")) == (1, 1), self.metrics()

    def held_mail(self):
        return self.mail("reader@web.de").replace(b"SET: news", b"SET: held").replace(b"\n", b"\r\n")

    def hold(self):
        """The set is stopped: callers are answered that their mail is accepted."""
        self.direct.put_configuration_set_sending_options(ConfigurationSetName="held", SendingEnabled=False)
        simple = self.v2.send_email(
            FromEmailAddress=FROM, Destination={"ToAddresses": ["reader@web.de"]}, ConfigurationSetName="held",
            Content={"Simple": {"Subject": {"Data": "held simple"}, "Body": {"Text": {"Data": "t"}}}},
            EmailTags=[{"Name": "campaign", "Value": "spring"}])
        raw = self.v2.send_email(Content={"Raw": {"Data": self.held_mail()}}, Destination={"ToAddresses": ["reader@web.de"]})
        ids = [simple["MessageId"], raw["MessageId"]]
        host, port = self.smtp.rsplit(":", 1)
        with smtplib.SMTP(host, int(port)) as client:
            client.ehlo()
            client.mail("bounces@news.example.com")
            client.rcpt("reader@web.de")
            code, text = client.data(self.held_mail())
        assert code == 250 and text.startswith(b"2.0.0 Ok held-"), (code, text)
        assert all(re.fullmatch(r"held-[0-9a-f]{32}", name) for name in ids), ids
        metrics = self.metrics()
        assert 'ses_relay_held_total{class="bulk",isp="' in metrics, metrics
        assert (self.count("v2 SendEmail", "held"), self.count("smtp", "held")) == (2, 1), metrics
        assert not [mail for mail in self.sent() if "ses-breaker-held" in str(mail)]
        self.direct.put_configuration_set_sending_options(ConfigurationSetName="held", SendingEnabled=True)

    def sent(self):
        """The requests of SendEmail (v2) that the emulated SES has accepted."""
        with urllib.request.urlopen(f"{self.emulator}/_ministack/ses/messages") as answer:
            text = json.load(answer)
        found, left = [], [text]
        while left:
            part = left.pop()
            if isinstance(part, dict) and "MessageId" in part:
                found += [json.loads(part["BodyText"])] if part["Type"] == "v2.SendEmail" else []
            else:
                left.extend(part.values() if isinstance(part, dict) else part if isinstance(part, list) else [])
        return found

    def released(self):
        """What was held has gone once, unchanged, with a tag that names it."""
        def held():
            return [mail for mail in self.sent() if any(tag["Name"] == "ses-breaker-held" for tag in mail.get("EmailTags", []))]

        until = time.monotonic() + 60
        while len(held()) < 3 and time.monotonic() < until:
            time.sleep(0.1)
        mails = held()
        assert len(mails) == 3, mails
        [simple] = [mail for mail in mails if "Simple" in mail["Content"]]
        assert {"Name": "campaign", "Value": "spring"} in simple["EmailTags"], simple
        assert simple["Content"]["Simple"]["Subject"]["Data"] == "held simple", simple
        raws = [base64.b64decode(mail["Content"]["Raw"]["Data"]) for mail in mails if "Raw" in mail["Content"]]
        # SMTP: without the field of the set, which is in the request.
        fieldless = self.held_mail().replace(b"X-SES-CONFIGURATION-SET: held\r\n", b"")
        assert sorted(raws) == sorted([self.held_mail(), fieldless]), raws
        until = time.monotonic() + 60
        while self.store() and time.monotonic() < until:
            time.sleep(0.1)
        assert self.store() == [], "what is sent is deleted"

    def store(self):
        s3 = boto3.session.Session().client("s3", endpoint_url=self.emulator,
                                            aws_access_key_id=os.environ["EMULATOR_KEY"], aws_secret_access_key="test")
        [bucket] = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"] if "heldmail" in bucket["Name"].lower()]
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        # What `ses-relay check` leaves.
        return [item["Key"] for item in listed if not item["Key"].endswith("/check")]

    def unsupported(self):
        try:
            self.v2.list_email_identities()
            raise AssertionError("it was relayed")
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("UnknownOperationException", "404"), error.response
            assert "SendEmail" in error.response["Error"]["Message"], error.response
        try:
            self.v1.list_identities()
            raise AssertionError("it was relayed")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidAction", error.response

    def quiet(self):
        assert not re.search(r"@|gmx\.de", self.metrics().replace("web.de", "")), self.metrics()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--relay", required=True)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--smtp", required=True)
    parser.add_argument("--released", action="store_true")
    arguments = parser.parse_args()
    checks = Checks(arguments)
    failed = False
    for check in (checks.released,) if arguments.released else (checks.v2_simple, checks.v2_raw, checks.v1_all, checks.templates, checks.deferred, checks.overflow,
                  checks.stopped, checks.submitted, checks.hold, checks.unsupported, checks.quiet):
        try:
            check()
            print(f"passed   {check.__name__}")
        except Exception:
            failed = True
            print(f"FAILED   {check.__name__}: {traceback.format_exc()}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
