//! Requests on their way to SES: the body as it came, with another configuration set.

use std::ops::Range;

use bytes::Bytes;

use crate::answer::Protocol;
use crate::mail::Mail;
use crate::ports::Call;
use crate::raw;
use crate::splice::Splice;

/// An operation, as in labels and logs.
pub(crate) type Operation = &'static str;

/// The operation of mail that came over SMTP.
pub(crate) const SMTP: Operation = "smtp";

/// Where a request goes at SES.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) path: &'static str,
    pub(crate) content_type: String,
}

impl Target {
    pub(crate) fn call(self, body: Bytes) -> Call {
        Call { path: self.path, content_type: self.content_type, body }
    }
}

/// A request that was read.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// One message.
    Single(Mail, Forward),
    /// Several messages, each with its own recipients.
    Bulk(Vec<Mail>, BulkForward),
}

/// A body, and the places in it that name the configuration set.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    pub(crate) body: Bytes,
    pub(crate) set: SetPlace,
    /// The field of raw mail that names the set, too. No document of AWS says which of both SES takes, so they are made
    /// the same.
    pub(crate) field: Option<RawField>,
    /// Where a message tag can be added; `None` if SES would not take it, or would lose others for it.
    pub(crate) tag: Option<TagPlace>,
}

/// Where a message tag is written, and what stands around its value there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagPlace {
    pub(crate) place: Range<usize>,
    pub(crate) before: String,
    pub(crate) after: &'static str,
}

/// The message tag that has the id of a mail that was held.
pub(crate) const HELD_TAG: &str = "ses-breaker-held";
/// SES takes at most this many tags of a message ("Service quotas", Amazon SES Developer Guide).
pub(crate) const MAX_TAGS: usize = 50;

/// Where the name of the set is written, and what stands around it there.
#[derive(Clone, Debug)]
pub(crate) struct SetPlace {
    pub(crate) place: Range<usize>,
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
}

/// Raw mail whose header names a configuration set.
#[derive(Clone, Debug)]
pub(crate) struct RawField {
    /// The base64 in the body.
    pub(crate) data: Range<usize>,
    /// The mail.
    pub(crate) mail: Vec<u8>,
    /// The value of the field in it.
    pub(crate) value: Range<usize>,
    pub(crate) protocol: Protocol,
}

impl Forward {
    /// The edits that make all places name this set.
    fn splice(self, route: &str) -> Splice {
        let SetPlace { place, before, after } = self.set;
        let mut splice = Splice::of(self.body);
        splice.replace(place, format!("{before}{route}{after}"));
        if let Some(RawField { data, mut mail, value, protocol }) = self.field
            && mail[value.clone()] != *route.as_bytes()
        {
            mail.splice(value, route.bytes());
            let text = raw::encoded(&mail);
            splice.replace(
                data,
                match protocol {
                    Protocol::V2 => text,
                    // The other characters of base64 stand for themselves in a form.
                    Protocol::V1 => text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"),
                },
            );
        }
        splice
    }

    /// The body with another set, and with a tag of this value; and whether the tag could be added.
    pub(crate) fn with_route_and_tag(mut self, route: &str, value: &str) -> (Bytes, bool) {
        let tag = self.tag.take();
        let mut splice = self.splice(route);
        let tagged = tag.is_some();
        if let Some(TagPlace { place, before, after }) = tag {
            splice.replace(place, format!("{before}{value}{after}"));
        }
        (splice.finish(), tagged)
    }

    /// The body with another set.
    pub(crate) fn with_route(self, route: &str) -> Bytes {
        self.splice(route).finish()
    }
}

/// A bulk request.
#[derive(Clone, Debug)]
pub(crate) struct BulkForward {
    pub(crate) forward: Forward,
    pub(crate) entries: Entries,
}

/// Where the entries of a bulk request are.
#[derive(Clone, Debug)]
pub(crate) enum Entries {
    /// The whole list, and each entry.
    Json { list: Range<usize>, each: Vec<Range<usize>> },
    /// All pairs of the form, and for those of an entry its index and the rest of its key.
    Form { pairs: Vec<(Range<usize>, OfEntry)> },
}

/// The index of the entry that a pair belongs to, and the rest of its key.
pub(crate) type OfEntry = Option<(usize, String)>;

impl BulkForward {
    /// The body for some of the entries, in their order.
    pub(crate) fn with_route(&self, route: &str, chosen: &[usize]) -> Bytes {
        let mut forward = self.forward.clone();
        match &self.entries {
            Entries::Json { each, .. } if chosen.len() == each.len() => forward.with_route(route),
            Entries::Json { list, each } => {
                let body = forward.body.clone();
                let mut entries = vec![b'['];
                for (number, range) in chosen.iter().filter_map(|index| each.get(*index)).enumerate() {
                    entries.extend_from_slice(if number > 0 { b"," } else { b"" });
                    entries.extend_from_slice(&body[range.clone()]);
                }
                entries.push(b']');
                let mut splice = forward.splice(route);
                splice.replace(list.clone(), entries);
                splice.finish()
            }
            Entries::Form { pairs } => {
                let all = pairs.iter().filter_map(|(_, entry)| entry.as_ref().map(|(index, _)| *index + 1)).max();
                if all == Some(chosen.len()) {
                    return forward.with_route(route);
                }
                let body = forward.body.clone();
                let mut made: Vec<u8> = Vec::with_capacity(body.len());
                let mut set = None;
                for (range, entry) in pairs {
                    let pair = &body[range.clone()];
                    let start = made.len() + usize::from(!made.is_empty());
                    match entry {
                        None => {
                            push(&mut made, pair);
                            if range.start <= forward.set.place.start && forward.set.place.end <= range.end {
                                let offset = forward.set.place.start - range.start;
                                set = Some(start + offset..start + offset + forward.set.place.len());
                            }
                        }
                        Some((index, rest)) => {
                            let Some(number) = chosen.iter().position(|chosen| chosen == index) else { continue };
                            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
                            push(&mut made, format!("Destinations.member.{}{rest}", number + 1).as_bytes());
                            made.extend_from_slice(&pair[equals..]);
                        }
                    }
                }
                // A set that was not named is added at the end.
                forward.set.place = set.unwrap_or(made.len()..made.len());
                forward.body = made.into();
                forward.with_route(route)
            }
        }
    }
}

fn push(made: &mut Vec<u8>, pair: &[u8]) {
    if !made.is_empty() {
        made.push(b'&');
    }
    made.extend_from_slice(pair);
}
