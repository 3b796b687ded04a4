"""Submits mail with Python's smtplib, and checks what the server answers.

usage: smtplib_client.py PORT MODE, where MODE is open, users or implicit
"""

import smtplib
import socket
import ssl
import sys
from email.message import EmailMessage

PORT, MODE = int(sys.argv[1]), sys.argv[2]
USER, SECRET = "ann", "0123456789abcdef"


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def refused(code, call, *arguments, **options):
    """The call must fail with this code."""
    try:
        call(*arguments, **options)
    except smtplib.SMTPRecipientsRefused as error:
        codes = {reply[0] for reply in error.recipients.values()}
        assert codes == {code}, error
    except smtplib.SMTPResponseException as error:
        assert error.smtp_code == code, error
    else:
        raise AssertionError(f"{call} was not refused with {code}")


def long_message():
    """Lines that begin with dots, lines that are dots, and 8 bits."""
    lines = ["Subject: dots", "", "."]
    lines += [("." * (number % 5)) + f"line {number} é" for number in range(20_000)]
    return ("\r\n".join(lines) + "\r\n").encode()


def main():
    context = unverified()
    if MODE == "implicit":
        client = smtplib.SMTP_SSL("127.0.0.1", PORT, context=context, timeout=20)
    else:
        client = smtplib.SMTP("127.0.0.1", PORT, timeout=20)
    with client:
        client.ehlo()
        for extension in ("pipelining", "8bitmime", "chunking", "enhancedstatuscodes", "size", "smtputf8"):
            assert client.has_extn(extension), extension
        assert client.esmtp_features["size"] == "2000000"
        if MODE == "users":
            assert not client.has_extn("auth"), "AUTH is offered without TLS"
            refused(530, client.sendmail, "ann@example.com", ["bob@example.org"], b"Subject: no\r\n")
            client.starttls(context=context)
            client.ehlo()
            assert not client.has_extn("starttls")
        if MODE != "open":
            assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
            refused(535, client.login, USER, "fedcba9876543210")
            client.login(USER, SECRET)

        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "ann@example.com", "bob@example.org", "first"
        message.set_content("Hello\n.\n..dots\n")
        assert client.send_message(message) == {}

        assert client.sendmail(
            "ann@example.com", ["bob@example.org"], long_message(), mail_options=["BODY=8BITMIME"]
        ) == {}

        # All but one recipient get it, and the one is named.
        left = client.sendmail("ann@example.com", ["bob@example.org", "not an address"], b"Subject: one\r\n\r\nx\r\n")
        assert list(left) == ["not an address"] and left["not an address"][0] == 501, left
        refused(501, client.sendmail, "ann@example.com", ["not an address"], b"Subject: none\r\n")

        # Above the limit: refused by its size, and by its bytes.
        large = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 200_000
        refused(552, client.sendmail, "ann@example.com", ["bob@example.org"], large)
        client.rset()
        assert client.docmd("MAIL FROM:<ann@example.com>")[0] == 250
        assert client.docmd("RCPT TO:<bob@example.org>")[0] == 250
        assert client.data(large)[0] == 552

        utf8 = EmailMessage()
        utf8["From"], utf8["To"], utf8["Subject"] = "bjørn@example.com", "用户@例子.example", "Größe"
        utf8.set_content("é\n")
        assert client.send_message(utf8) == {}

        # Pipelined in one write.
        piped = "MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
        client.send(piped)
        assert [client.getreply()[0] for _ in range(3)] == [250, 250, 354]
        client.send("Subject: piped\r\n\r\n..\r\n.\r\nNOOP\r\n")
        assert [client.getreply()[0] for _ in range(2)] == [250, 250]

        assert client.verify("bob")[0] == 252
        assert client.noop()[0] == 250
    if MODE == "users":
        with smtplib.SMTP("127.0.0.1", PORT, timeout=20) as client:
            client.starttls(context=context)
            client.ehlo()
            client.user, client.password = USER, SECRET
            assert client.auth("LOGIN", client.auth_login, initial_response_ok=False)[0] == 235
            assert client.sendmail("", ["bob@example.org"], b"Subject: null\r\n\r\nx\r\n") == {}
        # A client that ends its lines in LF is sent away, and does not wait for ever.
        with socket.create_connection(("127.0.0.1", PORT), timeout=20) as plain:
            plain.recv(1000)
            plain.sendall(b"EHLO x\n")
            answer = plain.recv(1000)
            assert answer.startswith(b"500 5.5.2 "), answer
    print("done")


main()
