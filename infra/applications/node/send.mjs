// Sends mails through SES, and keeps them while their configuration set is stopped.
import { SendEmailCommand } from "@aws-sdk/client-sesv2";

const FIRST_WAIT = 5 * 60_000;
const LONGEST_WAIT = 30 * 60_000;

/**
 * `ses` is an `SESv2Client`. `outbox` is your durable queue. It has two methods, which return promises:
 *
 * `sent(mail, messageId)` removes a mail from the queue.
 * `keep(mail, notBefore)` leaves it there, to be sent again at that time (in ms) or later.
 *
 * A mail is the input of `SendEmailCommand`, with `ConfigurationSetName`.
 */
export class Sender {
  #ses;
  #outbox;
  // When to ask SES again about a set that is stopped, and the wait until then.
  #stopped = new Map();

  constructor(ses, outbox) {
    this.#ses = ses;
    this.#outbox = outbox;
  }

  async send(mail, now = Date.now()) {
    const name = mail.ConfigurationSetName;
    let stop = this.#stopped.get(name);
    if (!stop || now >= stop.askAt) {
      const messageId = await this.#accepted(mail);
      if (messageId) {
        this.#stopped.delete(name);
        await this.#outbox.sent(mail, messageId);
        return;
      }
      const wait = stop ? Math.min(2 * stop.wait, LONGEST_WAIT) : FIRST_WAIT;
      stop = { askAt: now + wait, wait };
      this.#stopped.set(name, stop);
      const when = new Date(stop.askAt).toISOString();
      console.warn(`configuration set ${name} is stopped: its mail is kept; SES is asked again at ${when}`);
    }
    // Spread over the next wait, so that kept mail does not come back all at once.
    await this.#outbox.keep(mail, stop.askAt + stop.wait * Math.random());
  }

  /** The message id, or undefined if the set is stopped. Every other error is thrown. */
  async #accepted(mail) {
    try {
      return (await this.#ses.send(new SendEmailCommand(mail))).MessageId;
    } catch (error) {
      // SendingPausedException in API v2; longer names with this end in v1.
      if (error.name?.endsWith("SendingPausedException")) return undefined;
      throw error;
    }
  }
}
