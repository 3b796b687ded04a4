// Sends a mail with nodemailer. `keep(mail, notBefore)` leaves it in your durable queue, to be sent again at that time or later.
import { SESv2Client, SendEmailCommand } from "@aws-sdk/client-sesv2";
import nodemailer from "nodemailer";

const transport = nodemailer.createTransport({ SES: { sesClient: new SESv2Client(), SendEmailCommand } });

export async function send(mail, configurationSet, refusals, keep) {
  try {
    return await transport.sendMail({ ...mail, ses: { ConfigurationSetName: configurationSet } });
  } catch (error) {
    // The name is the SDK's; nodemailer adds only its own `code`.
    if (!error.name?.endsWith("SendingPausedException")) throw error;
    // 5, 10, then 20 minutes.
    const wait = 300_000 * 2 ** Math.min(refusals, 2);
    await keep(mail, Date.now() + wait * (1 + Math.random() / 4));
    return undefined;
  }
}
