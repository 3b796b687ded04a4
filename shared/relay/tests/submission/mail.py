"""Submits one mail with Python's smtplib, and prints the reply to it.

usage: mail.py PORT FROM TO,TO... [CERTIFICATE USER SECRET] < MESSAGE

With a certificate: STARTTLS, verified by it, and AUTH. The first reply that is not a success ends the session, and is printed.
"""

import smtplib
import ssl
import sys

PORT, FROM, TO = int(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")


def replies(client):
    if len(sys.argv) > 4:
        certificate, user, secret = sys.argv[4:]
        client.starttls(context=ssl.create_default_context(cafile=certificate))
        client.ehlo()
        try:
            yield client.login(user, secret)
        except smtplib.SMTPAuthenticationError as error:
            yield error.smtp_code, error.smtp_error
    yield client.mail(FROM)
    for to in TO:
        yield client.rcpt(to)
    yield client.data(sys.stdin.buffer.read())


# Not by `with`: a relay that is stopping answers QUIT with 421, which smtplib then takes for an error.
client = smtplib.SMTP("127.0.0.1", PORT, timeout=30)
client.ehlo()
for code, text in replies(client):
    if code >= 300:
        break
client.close()
print(code, text.decode())
