// infra/applications/node/send.mjs and nodemailer/send.mjs against an SES.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import {
  CreateConfigurationSetCommand, CreateEmailIdentityCommand, PutConfigurationSetSendingOptionsCommand, SESv2Client,
  SendEmailCommand,
} from "@aws-sdk/client-sesv2";

import { Sender } from "./node/send.mjs";
import { send } from "./nodemailer/send.mjs";

const FROM = "letters@news.example.com";
const MINUTE = 60_000;
const ses = new SESv2Client();

/** Two configuration sets: one that is stopped and resumed, and another. */
async function sets() {
  const mark = randomUUID().slice(0, 8);
  const [stopped, other] = [`newsletter-${mark}`, `receipts-${mark}`];
  for (const name of [stopped, other]) await ses.send(new CreateConfigurationSetCommand({ ConfigurationSetName: name }));
  await ses.send(new CreateEmailIdentityCommand({ EmailIdentity: FROM })).catch((error) => {
    if (error.name !== "AlreadyExistsException") throw error;
  });
  const toggle = (SendingEnabled) =>
    ses.send(new PutConfigurationSetSendingOptionsCommand({ ConfigurationSetName: stopped, SendingEnabled }));
  const subject = (number) => `${number} of ${stopped}`;
  const accepted = async () => {
    const answer = await fetch(`${process.env.AWS_ENDPOINT_URL}/_ministack/ses/messages`);
    const messages = Object.values((await answer.json()).messages).flat();
    const subjects = messages.map((message) => message.Subject);
    return subjects.filter((subject) => subject.includes(stopped));
  };
  return { stopped, other, toggle, subject, accepted };
}

function mail(subject, name, from = FROM) {
  return {
    FromEmailAddress: from,
    Destination: { ToAddresses: ["reader@example.org"] },
    Content: { Simple: { Subject: { Data: subject }, Body: { Text: { Data: "Hello." } } } },
    ConfigurationSetName: name,
  };
}

/** A queue in memory. */
class Outbox {
  mails = [];
  async sent(mail) {
    this.mails = this.mails.filter((one) => one.mail !== mail);
  }
  async keep(mail, notBefore) {
    await this.sent(mail);
    this.mails.push({ mail, notBefore });
  }
  due(now) {
    return this.mails.filter(({ notBefore }) => notBefore <= now).map(({ mail }) => mail);
  }
}

test("mail of a stopped set is kept, and sent once after the stop", async (context) => {
  const { stopped, other, toggle, subject, accepted } = await sets();
  const warn = context.mock.method(console, "warn", () => {});
  const outbox = new Outbox();
  const sender = new Sender(ses, outbox);
  const start = Date.now();

  await toggle(false);
  // At the same time: those that are under way when the set is stopped count as one refusal.
  await Promise.all([0, 1, 2].map((number) => sender.send(mail(subject(number), stopped), start)));
  await sender.send(mail(subject(3), stopped), start);
  await sender.send(mail(subject(4), other), start);
  assert.deepEqual(await accepted(), [subject(4)]);
  assert.equal(warn.mock.callCount(), 3);
  assert.match(warn.mock.calls[0].arguments[0], new RegExp(`${stopped} is stopped`));
  assert.equal(outbox.mails.length, 4);
  for (const { notBefore } of outbox.mails) {
    assert.ok(notBefore >= start + 5 * MINUTE && notBefore <= start + 10 * MINUTE, String(notBefore - start));
  }

  const later = start + 10 * MINUTE;
  for (const one of outbox.due(later)) await sender.send(one, later);
  assert.equal(warn.mock.callCount(), 4, "SES is asked once about a stopped set");
  assert.ok(outbox.mails.every(({ notBefore }) => notBefore >= later + 10 * MINUTE));

  await toggle(true);
  const end = later + 20 * MINUTE;
  for (const one of outbox.due(end)) await sender.send(one, end);
  assert.equal(outbox.mails.length, 0);
  assert.deepEqual((await accepted()).sort(), [0, 1, 2, 3, 4].map(subject).sort());
});

test("other errors are thrown, and nothing is kept", async () => {
  const { stopped, subject } = await sets();
  const outbox = new Outbox();
  const sender = new Sender(ses, outbox);
  await assert.rejects(sender.send(mail(subject(0), stopped, "who@unverified.example.net")), { name: "MessageRejected" });
  await assert.rejects(sender.send(mail(subject(1), "no-such-set")), { name: "NotFoundException" });
  const nowhere = new Sender(new SESv2Client({ endpoint: "http://127.0.0.1:9", maxAttempts: 1 }), outbox);
  await assert.rejects(nowhere.send(mail(subject(2), stopped)), { code: "ECONNREFUSED" });
  assert.equal(outbox.mails.length, 0);
});

test("the SDK does not repeat a refused call", async () => {
  const { stopped, subject, toggle } = await sets();
  await toggle(false);
  for (const retryMode of ["standard", "adaptive"]) {
    const client = new SESv2Client({ retryMode, maxAttempts: 5 });
    await assert.rejects(client.send(new SendEmailCommand(mail(subject(0), stopped))), (error) => {
      assert.deepEqual([error.name, error.$metadata.httpStatusCode, error.$metadata.attempts], ["SendingPausedException", 400, 1]);
      return true;
    });
  }
});

test("nodemailer: mail of a stopped set is kept, and sent once after the stop", async () => {
  const { stopped, other, toggle, subject, accepted } = await sets();
  const letter = (number) => ({ from: FROM, to: "reader@example.org", subject: subject(number), text: "Hello." });
  const kept = [];
  const keep = async (mail, notBefore) => kept.push({ mail, wait: notBefore - Date.now() });

  await toggle(false);
  assert.ok((await send(letter(0), other, 0, keep)).messageId);
  for (const refusals of [0, 1, 2, 50]) assert.equal(await send(letter(1), stopped, refusals, keep), undefined);
  assert.deepEqual(kept.map(({ mail }) => mail.subject), [1, 1, 1, 1].map(subject));
  for (const [index, minutes] of [5, 10, 20, 20].entries()) {
    const { wait } = kept[index];
    assert.ok(wait > (minutes - 0.1) * MINUTE && wait <= minutes * 1.25 * MINUTE, `${minutes} minutes: ${wait}`);
  }
  await toggle(true);
  assert.ok((await send(kept[0].mail, stopped, 4, keep)).messageId);
  assert.deepEqual(await accepted(), [subject(0), subject(1)]);
  assert.equal(kept.length, 4);

  const unverified = { ...letter(2), from: "who@unverified.example.net" };
  await assert.rejects(send(unverified, stopped, 0, keep), { name: "MessageRejected" });
  assert.equal(kept.length, 4);
});
