"""Sends a mail with Django, and tries again for as long as its configuration set is stopped.

For django-ses with `USE_SES_V2 = True`, and any other backend that raises the errors of boto3.
"""

import random

from botocore.exceptions import ClientError
from celery import shared_task
from django.core.mail import EmailMessage


# Without a limit: a stop may last a day, or until a person resumes the set. Celery's own limit is 3.
@shared_task(bind=True, max_retries=None)
def send_mail(self, configuration_set, subject, body, sender, to):
    headers = {"X-SES-CONFIGURATION-SET": configuration_set}
    try:
        EmailMessage(subject, body, sender, to, headers=headers).send()
    except ClientError as error:
        if not error.response["Error"]["Code"].endswith("SendingPausedException"):
            raise
        # 5, 10, then 20 minutes. SQS hands a task that waits for longer than its visibility timeout to a second worker.
        wait = 300 * 2 ** min(self.request.retries, 2)
        raise self.retry(exc=error, countdown=random.uniform(wait, 1.25 * wait))
