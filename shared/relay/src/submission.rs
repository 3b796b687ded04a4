//! Mail that came over SMTP, handed to SES as raw mail by API v2.
//!
//! `Destination` has the envelope's recipients, all as blind copies: SES delivers to them and not to those of the header,
//! and whatever it does with a visible list, none of them is shown to another. `FromEmailAddress` is left out where the mail
//! has a `From` field, because SES would replace that field, and the name in it, by the bare address.
//!
//! **Invariant:** a message is in memory for a limited time. One that takes longer is given up: it counts as unclear, and is
//! answered as such. If SES was being called, its permits count as used; before, they are put back.

use std::pin::Pin;

use bytes::Bytes;
use serde_json::json;
use tokio::time::timeout;

use crate::accept::{Accept, Message, Reply};
use crate::answer::{Fault, code_of};
use crate::forward::{Forward, SMTP, SetPlace, Target};
use crate::mail::{CLASS_FIELD, Mail, SET_FIELD, Said, TAGS_FIELD};
use crate::metrics::Outcome;
use crate::mime::Header;
use crate::relay::{Done, Relay, rejection};
use crate::v2::SEND;
use crate::{large, raw};

impl Accept for Relay {
    fn accept(&self, message: Message) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async move {
            let (own, recipients) = (self.clone(), message.recipients.len() as u64);
            let reading = large::on(message.content.len(), move || read(&own, &message)).await;
            let fault = || Fault::Unavailable("the message could not be read".to_owned());
            let (mail, body) = match reading.unwrap_or_else(|| Err(fault())) {
                Ok(read) => read,
                Err(fault) => {
                    self.metrics().rejected(SMTP, rejection(&fault));
                    return reply(&Done::Fault(fault));
                }
            };
            let end = body.len() - 1;
            let set = SetPlace { place: end..end, before: ",\"ConfigurationSetName\":\"", after: "\"" };
            let forward = Forward { body: Bytes::from(body), set, field: None, tag: None };
            let target = Target { path: SEND, content_type: "application/json".to_owned() };
            let limit = self.submission_limit();
            match timeout(limit, self.send_one(SMTP, target, &mail, forward)).await {
                Ok((done, _)) => reply(&done),
                Err(_) => {
                    let why = format!("neither sent nor refused within {} s", limit.as_secs());
                    self.count(SMTP, &mail, &vec![(None, recipients)], Outcome::Unclear, &why);
                    reply(&Done::Fault(Fault::Unavailable(why)))
                }
            }
        })
    }
}

/// The mail, and a request for SendEmail that names no configuration set yet.
fn read(relay: &Relay, message: &Message) -> Result<(Mail, String), Fault> {
    let malformed = |error: &dyn std::fmt::Display| Fault::Malformed(error.to_string());
    let content = &message.content;
    let header = Header::parse(content).map_err(|error| malformed(&error))?;
    let mut said = Said::default();
    for recipient in &message.recipients {
        said.to.add_one(recipient).map_err(|error| malformed(&error))?;
    }
    said.complete(content, &header, &relay.rules().class_tag).map_err(|error| malformed(&error))?;
    let has_author = said.from.is_some();
    if !has_author {
        said.from = Some(message.from.clone());
    }
    let mail = relay.rules().judge(said).map_err(|error| malformed(&error))?;
    let tags = header.one(content, TAGS_FIELD).map_err(|error| malformed(&error))?.unwrap_or_default();
    let tags: Vec<_> = tags
        .split([',', ';'])
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| json!({ "Name": name.trim(), "Value": value.trim() }))
        .collect();
    // What the request says is not said twice; and no recipient may see the blind copies.
    let kept = header.without(content, &[SET_FIELD, TAGS_FIELD, CLASS_FIELD, "Bcc", "Resent-Bcc"]);
    let mut request = json!({
        "Content": { "Raw": { "Data": raw::encoded(&kept) } },
        "Destination": { "BccAddresses": message.recipients },
    });
    if !has_author {
        request["FromEmailAddress"] = json!(message.from);
    }
    if !tags.is_empty() {
        request["EmailTags"] = json!(tags);
    }
    Ok((mail, request.to_string()))
}

/// What the client of SMTP is answered. It repeats what has a code of 4xx, and gives up on 5xx.
fn reply(done: &Done) -> Reply {
    let (code, status, text) = match done {
        Done::Answered(answer) if answer.status().is_success() => {
            let id = serde_json::from_slice::<serde_json::Value>(answer.body()).ok();
            let id = id.as_ref().and_then(|answer| answer["MessageId"].as_str()).unwrap_or_default();
            (250, "2.0.0", format!("Ok {id}"))
        }
        Done::Answered(answer) => {
            let code = code_of(answer).unwrap_or_else(|| answer.status().to_string());
            match answer.status().as_u16() {
                // A stop ends; a mailer keeps its mail for days.
                400 if code.ends_with("SendingPausedException") => (451, "4.7.1", code),
                429 => (454, "4.7.0", format!("Throttling failure: {code}")),
                400 if code.ends_with("LimitExceededException") => {
                    (454, "4.7.0", format!("Throttling failure: {code}"))
                }
                // Credentials, permissions and clocks are the relay's affair, and are put right.
                300..=399 | 401 | 403 | 408 | 500..=599 => (451, "4.3.0", code),
                _ => (554, "5.0.0", format!("Transaction failed: {code}")),
            }
        }
        Done::Fault(fault) => match fault {
            Fault::Deferred { .. } => (451, "4.7.1", fault.message()),
            Fault::Malformed(text) | Fault::Unsupported(text) => (554, "5.6.0", text.clone()),
            Fault::TooLarge(text) => (552, "5.3.4", text.clone()),
            Fault::Slow | Fault::Unavailable(_) => (451, "4.3.0", fault.message()),
        },
    };
    let text = text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).take(400).collect();
    Reply { code, status, text }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::Response;
    use permits::Class;
    use serde_json::Value;

    use super::*;
    use crate::ports::{
        Call, Deferral, Granted, Lease, NoPermission, NotAnswered, Pending, Permission, Permitting, Sender, Ses,
    };

    /// Grants all mail but that to `wait.example`, and counts what is put back.
    #[derive(Clone, Default)]
    struct Granting(Arc<Mutex<u64>>);

    impl Lease for Granting {
        fn put_back(self: Box<Self>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    impl Permitting for Granting {
        fn take<'a>(
            &'a self,
            sender: &'a Sender,
            domain: &'a str,
            mails: u64,
            _class: Class,
        ) -> Pending<'a, Result<Permission, NoPermission>> {
            Box::pin(async move {
                if domain == "wait.example" {
                    let retry_after = std::time::Duration::from_secs(7);
                    let isp = Some("gmail".into());
                    return Ok(Permission::Wait(Deferral {
                        retry_after,
                        isp,
                        reason: "the quota is used up".to_owned(),
                    }));
                }
                let route = format!("{}-route", sender.set).into();
                let isp = Some("gmail".into());
                Ok(Permission::Granted(Granted { route, mails, isp, degraded: false, lease: Box::new(self.clone()) }))
            })
        }
    }

    /// Keeps what it gets, and answers always the same.
    struct Recording(Mutex<Vec<Call>>, Result<(u16, &'static str), NotAnswered>);

    impl Ses for Recording {
        fn send(&self, call: Call) -> Pending<'_, Result<Response<Bytes>, NotAnswered>> {
            self.0.lock().unwrap().push(call);
            let answer = self.1.clone().map(|(status, code)| {
                let response = Response::builder().status(status).header("x-amzn-errortype", code);
                response.body(Bytes::from_static(b"{\"MessageId\":\"m-1\"}")).unwrap()
            });
            Box::pin(async move { answer })
        }
    }

    async fn accepted(
        content: &str,
        to: &[&str],
        answer: Result<(u16, &'static str), NotAnswered>,
    ) -> (Reply, Vec<Value>, u64) {
        let (granting, ses) = (Granting::default(), Arc::new(Recording(Mutex::default(), answer)));
        let relay = Relay::over("news", Arc::new(granting.clone()), ses.clone());
        let recipients = to.iter().map(|&to| to.to_owned()).collect();
        let content = Bytes::from(content.to_owned());
        let reply = relay.accept(Message { from: "bounce@b.example".to_owned(), recipients, content }).await;
        let calls = ses.0.lock().unwrap().iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect();
        let put_back = *granting.0.lock().unwrap();
        (reply, calls, put_back)
    }

    const MAIL: &str = "From: \"A\" <a@b.example>\r\nTo: x@gmail.com\r\nBcc: secret@c.example,\r\n d@e.example\r\nx-ses-configuration-set: codes\r\n\
        X-SES-MESSAGE-TAGS: a=b, c=d\r\nSubject: s\r\n\r\nBcc: text\r\n";

    #[tokio::test]
    async fn a_message_becomes_raw_mail_to_its_envelope_alone_and_no_blind_copy_is_named_in_it() {
        let (reply, calls, _) = accepted(MAIL, &["x@gmail.com", "secret@c.example"], Ok((200, ""))).await;
        assert_eq!(reply, Reply { code: 250, status: "2.0.0", text: "Ok m-1".to_owned() });
        let data = raw::encoded(b"From: \"A\" <a@b.example>\r\nTo: x@gmail.com\r\nSubject: s\r\n\r\nBcc: text\r\n");
        let expected = json!({
            "Content": { "Raw": { "Data": data } },
            "Destination": { "BccAddresses": ["x@gmail.com", "secret@c.example"] },
            "EmailTags": [{ "Name": "a", "Value": "b" }, { "Name": "c", "Value": "d" }],
            "ConfigurationSetName": "codes-route",
        });
        assert_eq!(calls, [expected]);
    }

    #[tokio::test]
    async fn the_envelope_names_the_sender_of_mail_without_from() {
        let (reply, calls, _) = accepted("Subject: s\r\n\r\n", &["x@gmail.com"], Ok((200, ""))).await;
        assert_eq!((reply.code, &calls[0]["FromEmailAddress"]), (250, &json!("bounce@b.example")));
    }

    #[tokio::test]
    async fn a_mailer_keeps_what_may_go_later_and_gives_up_what_ses_refuses() {
        let check = async |to: &str, answer, expected: &str, expected_back| {
            let (reply, _, put_back) = accepted(MAIL, &[to], answer).await;
            assert_eq!(format!("{} {} {}", reply.code, reply.status, reply.text), expected);
            assert_eq!(put_back, expected_back, "{expected}");
            assert!(!reply.text.contains("x@") && !reply.text.contains("nobody"));
        };
        let ok = Ok((200, ""));
        check("x@wait.example", ok, "451 4.7.1 mail to gmail has to wait: the quota is used up; ask again in 7 s", 0)
            .await;
        let refused = Ok((400, "MessageRejected"));
        check("x@gmail.com", refused, "554 5.0.0 Transaction failed: MessageRejected", 1).await;
        check("x@gmail.com", Ok((400, "SendingPausedException")), "451 4.7.1 SendingPausedException", 1).await;
        let throttled = Ok((429, "TooManyRequestsException"));
        check("x@gmail.com", throttled, "454 4.7.0 Throttling failure: TooManyRequestsException", 1).await;
        check("x@gmail.com", Ok((500, "InternalFailure")), "451 4.3.0 InternalFailure", 0).await;
        let unclear = Err(NotAnswered::Unclear("timeout".to_owned()));
        check("x@gmail.com", unclear, "451 4.3.0 no answer came from SES: timeout", 0).await;
        let not_sent = Err(NotAnswered::NotSent("refused".to_owned()));
        check("x@gmail.com", not_sent, "451 4.3.0 SES was not reached: refused", 1).await;
        check("nobody", Ok((200, "")), "554 5.6.0 recipients: an address has no local part or no `@`", 0).await;
    }

    /// Never answers, as a provider of credentials may.
    struct Silent;

    impl Ses for Silent {
        fn send(&self, _call: Call) -> Pending<'_, Result<Response<Bytes>, NotAnswered>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_given_up_after_its_time_and_counts_as_sent() {
        let granting = Granting::default();
        let relay = Relay::over("news", Arc::new(granting.clone()), Arc::new(Silent));
        let recipients = vec!["x@gmail.com".to_owned()];
        let content = Bytes::from(MAIL);
        let reply = relay.accept(Message { from: "bounce@b.example".to_owned(), recipients, content }).await;
        assert_eq!((reply.code, reply.status), (451, "4.3.0"), "{}", reply.text);
        assert!(reply.text.contains("neither sent nor refused within 60 s"), "{}", reply.text);
        assert_eq!(*granting.0.lock().unwrap(), 0, "it may have been sent");
        let metrics = relay.metrics().text(&permits::Counts::default(), 0, None);
        assert!(
            metrics.contains("operation=\"smtp\",class=\"bulk\",isp=\"(unknown)\",outcome=\"unclear\"} 1"),
            "{metrics}"
        );
    }
}
