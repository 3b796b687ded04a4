//! A held mail as an object: a line of JSON, then the body of the request as the caller sent it.

use std::collections::BTreeMap;

use bytes::Bytes;
use permits::Class;
use serde::{Deserialize, Serialize};

use crate::answer::Fault;
use crate::forward::{BulkForward, Forward, Operation, Parsed, SMTP, Target};
use crate::mail::{Mail, Rules};
use crate::ports::Sender;
use crate::{v1, v2};

/// What this release writes and reads.
const VERSION: u32 = 1;
/// Longer than a header can be: 50 domains of 253 bytes.
const MAX_HEADER: usize = 64 << 10;

/// A mail that is held.
#[derive(Clone, Debug)]
pub(crate) struct HeldMail {
    pub(crate) operation: Operation,
    pub(crate) target: Target,
    pub(crate) mail: Mail,
    /// The tag that named the class where the mail was accepted.
    pub(crate) class_tag: String,
    /// A request for this one mail.
    pub(crate) body: Bytes,
}

/// All that is needed to rebuild the request, and to ask the gate again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    version: u32,
    operation: String,
    path: String,
    content_type: String,
    class: Class,
    class_tag: String,
    configuration_set: String,
    identity: String,
    /// By domain.
    recipients: BTreeMap<String, u64>,
    /// Why the mail has ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

/// Only the version: what follows may be of another release.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why an object cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Written by a later release, which will send it.
    #[error("a held mail was written by another release")]
    OtherRelease,
    /// Not a held mail.
    #[error("an object is not a held mail")]
    Broken,
}

/// How SES is asked to send it.
pub(crate) enum Request {
    Single(Forward),
    Bulk(BulkForward),
}

impl HeldMail {
    /// The object.
    pub(crate) fn encode(&self) -> Bytes {
        self.encode_with(None)
    }

    /// The object of a mail that has ended, with the reason.
    pub(crate) fn encode_ended(&self, reason: &str) -> Bytes {
        self.encode_with(Some(reason.to_owned()))
    }

    fn encode_with(&self, ended: Option<String>) -> Bytes {
        let header = Header {
            version: VERSION,
            operation: self.operation.to_owned(),
            path: self.target.path.to_owned(),
            content_type: self.target.content_type.clone(),
            class: self.mail.class,
            class_tag: self.class_tag.clone(),
            configuration_set: self.mail.sender.set.clone(),
            identity: self.mail.sender.identity.clone(),
            recipients: self.mail.recipients.clone(),
            ended,
        };
        let mut object = serde_json::to_vec(&header).unwrap_or_default();
        object.reserve_exact(self.body.len() + 1);
        object.push(b'\n');
        object.extend_from_slice(&self.body);
        object.into()
    }

    /// Reads an object.
    pub(crate) fn decode(object: &Bytes) -> Result<HeldMail, Unreadable> {
        let end = object.iter().take(MAX_HEADER).position(|byte| *byte == b'\n').ok_or(Unreadable::Broken)?;
        let Versioned { version } = serde_json::from_slice(&object[..end]).map_err(|_| Unreadable::Broken)?;
        if version != VERSION {
            return Err(Unreadable::OtherRelease);
        }
        let header: Header = serde_json::from_slice(&object[..end]).map_err(|_| Unreadable::Broken)?;
        let operation =
            OPERATIONS.into_iter().find(|known| *known == header.operation).ok_or(Unreadable::OtherRelease)?;
        let path = [v2::SEND, v2::SEND_BULK, "/"].into_iter().find(|known| *known == header.path);
        let sender = Sender { set: header.configuration_set, identity: header.identity };
        Ok(HeldMail {
            operation,
            target: Target { path: path.ok_or(Unreadable::OtherRelease)?, content_type: header.content_type },
            mail: Mail { sender, class: header.class, recipients: header.recipients, holds: true },
            class_tag: header.class_tag,
            body: object.slice(end + 1..),
        })
    }

    /// The request, read again by the rules under which it was accepted.
    ///
    /// # Errors
    ///
    /// This release does not read what another has accepted.
    pub(crate) fn request(&self) -> Result<Request, Fault> {
        let rules = Rules {
            default_set: Some(self.mail.sender.set.clone()),
            class_tag: self.class_tag.clone(),
            ..Rules::default()
        };
        let parsed = match self.target.path {
            "/" => v1::parse(self.body.clone(), &rules).1,
            path => v2::parse(path, self.body.clone(), &rules),
        };
        Ok(match parsed? {
            Parsed::Single(_, forward) => Request::Single(forward),
            Parsed::Bulk(_, forward) => Request::Bulk(forward),
        })
    }
}

/// The operations of mail that is held, as in labels.
const OPERATIONS: [Operation; 7] = [
    "v2 SendEmail",
    "v2 SendBulkEmail",
    "v1 SendEmail",
    "v1 SendRawEmail",
    "v1 SendTemplatedEmail",
    "v1 SendBulkTemplatedEmail",
    SMTP,
];

impl Request {
    /// The body with another set, and with a tag that names the held mail; and whether the tag could be added.
    pub(crate) fn body(self, route: &str, id: &str) -> (Bytes, bool) {
        match self {
            Request::Single(forward) => forward.with_route_and_tag(route, id),
            Request::Bulk(bulk) => bulk.forward.with_route_and_tag(route, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(body: &str) -> HeldMail {
        HeldMail {
            operation: "v2 SendEmail",
            target: Target { path: v2::SEND, content_type: "application/json".to_owned() },
            mail: Mail {
                sender: Sender { set: "news".to_owned(), identity: "b.example".to_owned() },
                class: Class::Bulk,
                recipients: BTreeMap::from([("gmail.com".to_owned(), 2)]),
                holds: true,
            },
            class_tag: "ses-breaker-class".to_owned(),
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn a_mail_is_read_as_it_was_written_and_its_body_is_not_changed() {
        let held = held("{\"a\":\n1}\n\n");
        let object = held.encode();
        insta::assert_snapshot!(String::from_utf8_lossy(&object[..object.len() - held.body.len()]), @r#"{"version":1,"operation":"v2 SendEmail","path":"/v2/email/outbound-emails","contentType":"application/json","class":"bulk","classTag":"ses-breaker-class","configurationSet":"news","identity":"b.example","recipients":{"gmail.com":2}}"#);
        let read = HeldMail::decode(&object).unwrap();
        assert_eq!((&read.body, &read.mail, read.operation), (&held.body, &held.mail, held.operation));
        let ended = HeldMail::decode(&held.encode_ended("MessageRejected")).unwrap();
        assert_eq!(ended.body, held.body);
    }

    #[test]
    fn what_another_release_wrote_is_left_to_it_and_what_is_broken_is_known_as_such() {
        let check = |object: &str, expected| {
            assert_eq!(HeldMail::decode(&Bytes::from(object.to_owned())).unwrap_err(), expected, "{object}");
        };
        check("{\"version\":2,\"new\":{}}\nbody", Unreadable::OtherRelease);
        check("{\"version\":1}\nbody", Unreadable::Broken);
        check("{\"version\":1}", Unreadable::Broken);
        check("", Unreadable::Broken);
        let object = String::from_utf8(held("x").encode().to_vec()).unwrap();
        check(&object.replace("v2 SendEmail", "v3 SendEmail"), Unreadable::OtherRelease);
    }
}
