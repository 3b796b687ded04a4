//! Requests of API v1: forms (the query protocol of AWS).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bytes::Bytes;

use crate::answer::{Fault, Protocol};
use crate::forward::{BulkForward, Entries, Forward, HELD_TAG, MAX_TAGS, Parsed, RawField, SetPlace, TagPlace};
use crate::mail::{MAX_RECIPIENTS, Recipients, Rules, SET_FIELD, Said, TAGS_FIELD};
use crate::mime::Header;
use crate::raw;

/// An operation that is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Simple,
    Raw,
    Templated,
    Bulk,
}

impl Action {
    const ALL: [Action; 4] = [Action::Simple, Action::Raw, Action::Templated, Action::Bulk];

    /// As in requests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Simple => "SendEmail",
            Action::Raw => "SendRawEmail",
            Action::Templated => "SendTemplatedEmail",
            Action::Bulk => "SendBulkTemplatedEmail",
        }
    }
}

/// A bulk request has at most 50 entries of 50 recipients, and some tags.
const MAX_PAIRS: usize = 20_000;

/// A pair of a form.
struct Pair {
    key: String,
    /// The whole pair, as it is written.
    whole: Range<usize>,
    /// Its value, as it is written.
    value: Range<usize>,
}

struct Form<'a> {
    text: &'a str,
    pairs: Vec<Pair>,
}

impl<'a> Form<'a> {
    fn parse(body: &'a [u8]) -> Result<Form<'a>, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not a form"))?;
        let mut pairs = Vec::new();
        let mut seen = HashSet::new();
        let mut at = 0;
        for pair in text.split('&') {
            let whole = at..at + pair.len();
            at = whole.end + 1;
            if pair.is_empty() {
                continue;
            }
            if pairs.len() == MAX_PAIRS {
                return Err(malformed("the form has too many parameters"));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent_decoded(key)?;
            // It could not be known which of them SES takes.
            if !seen.insert(key.clone()) {
                return Err(malformed("the form has a parameter twice"));
            }
            let value = whole.end - value.len()..whole.end;
            pairs.push(Pair { key, whole, value });
        }
        Ok(Form { text, pairs })
    }

    fn find(&self, key: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.key == key)
    }

    fn value(&self, pair: &Pair) -> Result<String, Fault> {
        percent_decoded(&self.text[pair.value.clone()])
    }

    fn get(&self, key: &str) -> Result<Option<String>, Fault> {
        self.find(key).map(|pair| self.value(pair)).transpose()
    }
}

/// The text of a key or value of a form.
fn percent_decoded(text: &str) -> Result<String, Fault> {
    let wrong = || malformed("the form has a malformed escape");
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| (byte as char).to_digit(16)).ok_or_else(wrong);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).map_err(|_| wrong())?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| malformed("the form has a value that is not UTF-8"))
}

/// Reads a request. The operation is returned with it, or with the fault, if it is known.
///
/// # Errors
///
/// The fault to answer.
pub(crate) fn parse(body: Bytes, rules: &Rules) -> (Option<Action>, Result<Parsed, Fault>) {
    let form = match Form::parse(&body) {
        Ok(form) => form,
        Err(fault) => return (None, Err(fault)),
    };
    let name = form.get("Action").unwrap_or_default().unwrap_or_default();
    let Some(action) = Action::ALL.into_iter().find(|action| action.name() == name) else {
        let names = Action::ALL.map(Action::name).join(", ");
        let text = format!("the relay supports {names}; send other requests to SES itself");
        return (None, Err(Fault::Unsupported(text)));
    };
    let parsed = match action {
        Action::Bulk => bulk(&form, body.clone(), rules),
        Action::Simple | Action::Raw | Action::Templated => single(action, &form, body.clone(), rules),
    };
    (Some(action), parsed)
}

fn single(action: Action, form: &Form<'_>, body: Bytes, rules: &Rules) -> Result<Parsed, Fault> {
    let is_raw = action == Action::Raw;
    let mut to = Recipients::default();
    let mut tags = Tags::default();
    for pair in &form.pairs {
        if is_about(&pair.key, "Destination") {
            let known =
                if is_raw { is_member(&pair.key, "Destinations") } else { is_recipient(&pair.key, "Destination.") };
            add(&mut to, form, pair, known)?;
        } else if let Some(rest) = pair.key.strip_prefix("Tags.member.") {
            tags.add(rest, form.value(pair)?);
        }
    }
    let mut said = Said { set: form.get(SET)?, from: form.get("Source")?, class: tags.find(&rules.class_tag), to };
    let mut tag = tags.place(form, "Tags.");
    let field = if is_raw {
        let raw = raw_field(form, &mut said, rules)?;
        // SES takes the tags of the field only if the request has none.
        tag = tag.filter(|_| !(tags.0.is_empty() && raw.has_tags));
        raw.field
    } else {
        None
    };
    let mail = rules.judge(said).map_err(malformed)?;
    Ok(Parsed::Single(mail, Forward { set: set_place(form), body, field, tag }))
}

/// What the header of raw mail has.
struct OfHeader {
    field: Option<RawField>,
    has_tags: bool,
}

fn raw_field(form: &Form<'_>, said: &mut Said, rules: &Rules) -> Result<OfHeader, Fault> {
    let data = form.find("RawMessage.Data").ok_or_else(|| malformed("RawMessage.Data is missing"))?;
    let text = form.value(data)?;
    // A plus that was not escaped was decoded as a blank; SES would read it so, too, and refuse it.
    let mail = raw::beginning(&text).map_err(malformed)?;
    let header = Header::parse(&mail).map_err(malformed)?;
    header.one(&mail, SET_FIELD).map_err(malformed)?;
    said.complete(&mail, &header, &rules.class_tag).map_err(malformed)?;
    let has_tags = header.one(&mail, TAGS_FIELD).map_err(malformed)?.is_some();
    let Some(value) = header.place(&mail, SET_FIELD) else { return Ok(OfHeader { field: None, has_tags }) };
    let mail = raw::decoded(&text).map_err(malformed)?;
    let field = RawField { data: data.value.clone(), mail, value, protocol: Protocol::V1 };
    Ok(OfHeader { field: Some(field), has_tags })
}

fn bulk(form: &Form<'_>, body: Bytes, rules: &Rules) -> Result<Parsed, Fault> {
    let mut entries: BTreeMap<u64, (Recipients, Tags)> = BTreeMap::new();
    let mut default_tags = Tags::default();
    let mut keys = Vec::with_capacity(form.pairs.len());
    for pair in &form.pairs {
        let mut of = None;
        if is_about(&pair.key, "Destination") {
            let parsed = pair.key.strip_prefix("Destinations.member.").and_then(|rest| {
                let (number, rest) = rest.split_at(rest.find('.')?);
                Some((index(number)?, rest))
            });
            let (number, rest) = parsed.ok_or_else(|| malformed("a parameter of Destinations is not known"))?;
            let (to, tags) = entries.entry(number).or_default();
            if let Some(tag) = rest.strip_prefix(".ReplacementTags.member.") {
                // The name is written anew with another number, so it must be one that SES knows.
                let known = tag.split_once('.');
                if !known.is_some_and(|(at, member)| index(at).is_some() && ["Name", "Value"].contains(&member)) {
                    return Err(malformed("a parameter of ReplacementTags is not known"));
                }
                tags.add(tag, form.value(pair)?);
            } else if rest != ".ReplacementTemplateData" && rest != ".ReplacementTags" {
                add(to, form, pair, is_recipient(rest, ".Destination."))?;
            }
            of = Some((number, rest.to_owned()));
        } else if let Some(rest) = pair.key.strip_prefix("DefaultTags.member.") {
            default_tags.add(rest, form.value(pair)?);
        }
        keys.push((pair.whole.clone(), of));
    }
    if entries.is_empty() || entries.len() as u64 > MAX_RECIPIENTS {
        return Err(malformed(format!("Destinations has {} members, not 1 to {MAX_RECIPIENTS}", entries.len())));
    }
    let numbers: Vec<u64> = entries.keys().copied().collect();
    let (set, from, default_class) = (form.get(SET)?, form.get("Source")?, default_tags.find(&rules.class_tag));
    let mut only_tags = Tags::default();
    let mails = entries.into_values().map(|(to, tags)| {
        let class = tags.find(&rules.class_tag).or_else(|| default_class.clone());
        only_tags = tags;
        rules.judge(Said { set: set.clone(), from: from.clone(), class, to }).map_err(malformed)
    });
    let mails = mails.collect::<Result<Vec<_>, _>>()?;
    let pairs = keys.into_iter().map(|(whole, of)| {
        let of = of.and_then(|(number, rest)| Some((numbers.binary_search(&number).ok()?, rest)));
        (whole, of)
    });
    let pairs = pairs.collect();
    let tag = match &numbers[..] {
        [one] if !only_tags.0.is_empty() => {
            only_tags.place(form, &format!("Destinations.member.{one}.ReplacementTags."))
        }
        [_] => default_tags.place(form, "DefaultTags."),
        _ => None,
    };
    let entries = Entries::Form { pairs };
    let forward = Forward { set: set_place(form), body, field: None, tag };
    Ok(Parsed::Bulk(mails, BulkForward { forward, entries }))
}

const SET: &str = "ConfigurationSetName";

fn set_place(form: &Form<'_>) -> SetPlace {
    match form.find(SET) {
        Some(pair) if form.text[pair.whole.clone()].contains('=') => {
            SetPlace { place: pair.value.clone(), before: "", after: "" }
        }
        Some(pair) => SetPlace { place: pair.value.clone(), before: "=", after: "" },
        None => {
            let end = form.text.len();
            SetPlace { place: end..end, before: "&ConfigurationSetName=", after: "" }
        }
    }
}

/// Whether a key begins so, in whatever case: one that SES may understand must be understood here.
fn is_about(key: &str, prefix: &str) -> bool {
    key.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether a key is `PREFIXToAddresses.member.N`, or of Cc or Bcc. The empty list has no `.member.N`.
fn is_recipient(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| {
        ["ToAddresses", "CcAddresses", "BccAddresses"].into_iter().any(|list| rest == list || is_member(rest, list))
    })
}

/// Whether a key is `LIST.member.N`.
fn is_member(key: &str, list: &str) -> bool {
    key.strip_prefix(list).and_then(|rest| rest.strip_prefix(".member.")).is_some_and(|number| index(number).is_some())
}

/// A number without a sign and leading zeros, so that no two texts are the same number.
fn index(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn add(to: &mut Recipients, form: &Form<'_>, pair: &Pair, known: bool) -> Result<(), Fault> {
    let value = form.value(pair)?;
    match (known, value.is_empty()) {
        (true, false) if pair.key.contains(".member.") => to.add_one(&value).map_err(malformed),
        // An empty list, as SDKs write it: `Destination.ToAddresses=`, `Destinations=`.
        (_, true) if pair.key.rsplit('.').next().is_none_or(|last| index(last).is_none()) => Ok(()),
        _ => Err(malformed("a parameter of Destination is not known, or empty")),
    }
}

/// Tags of one list, by their index.
#[derive(Default)]
struct Tags(BTreeMap<String, [Option<String>; 2]>);

impl Tags {
    /// Adds `N.Name` or `N.Value`.
    fn add(&mut self, rest: &str, value: String) {
        let Some((number, member)) = rest.split_once('.') else { return };
        let place = match member {
            "Name" => 0,
            "Value" => 1,
            _ => return,
        };
        self.0.entry(number.to_owned()).or_default()[place] = Some(value);
    }

    /// Where a tag can be added to these, whose keys begin so: at the end of the form, under the next number.
    fn place(&self, form: &Form<'_>, list: &str) -> Option<TagPlace> {
        let numbers: Vec<u64> = self.0.keys().map(|number| index(number)).collect::<Option<_>>()?;
        if self.0.len() >= MAX_TAGS || self.find(HELD_TAG).is_some() {
            return None;
        }
        let next = numbers.into_iter().max().unwrap_or_default().checked_add(1)?;
        let end = form.text.len();
        let before = format!("&{list}member.{next}.Name={HELD_TAG}&{list}member.{next}.Value=");
        Some(TagPlace { place: end..end, before, after: "" })
    }

    fn find(&self, wanted: &str) -> Option<String> {
        let tag = self.0.values().find(|[name, _]| name.as_deref() == Some(wanted))?;
        Some(tag[1].clone().unwrap_or_default())
    }
}

fn malformed(error: impl std::fmt::Display) -> Fault {
    Fault::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use permits::Class;
    use proptest::prelude::*;

    use super::*;

    fn rules() -> Rules {
        Rules { default_set: Some("news".to_owned()), class_tag: "class".to_owned(), ..Rules::default() }
    }

    fn parsed(body: &str) -> Result<Parsed, Fault> {
        parse(Bytes::from(body.to_owned()), &rules()).1
    }

    fn forwarded(body: &str) -> String {
        match parsed(body) {
            Ok(Parsed::Single(_, forward)) => String::from_utf8(forward.with_route("route").to_vec()).unwrap(),
            other => panic!("{other:?}: {body}"),
        }
    }

    const SEND: &str = "Action=SendEmail&Version=2010-12-01&Source=A+%3Ca%40b.example%3E&Destination.ToAddresses.member.1=x%40gmail.com&Destination.CcAddresses=&Destination.BccAddresses.member.1=y@yahoo.com&Message.Subject.Data=%e9&Tags.member.2.Name=class&Tags.member.2.Value=critical";

    #[test]
    fn only_the_configuration_set_changes_wherever_it_is() {
        assert_eq!(forwarded(SEND), format!("{SEND}&ConfigurationSetName=route"));
        assert_eq!(forwarded(&format!("{SEND}&ConfigurationSetName=a")), format!("{SEND}&ConfigurationSetName=route"));
        assert_eq!(forwarded(&format!("{SEND}&ConfigurationSetName")), format!("{SEND}&ConfigurationSetName=route"));
        let before = format!("Configuration%53etName=%61&{SEND}&");
        assert_eq!(forwarded(&before), format!("Configuration%53etName=route&{SEND}&"));
    }

    #[test]
    fn a_tag_is_added_under_the_next_number_and_left_out_where_others_would_be_lost_for_it() {
        let tagged = |body: &str| {
            let forward = match parsed(body).unwrap() {
                Parsed::Single(_, forward) => forward,
                Parsed::Bulk(_, bulk) => bulk.forward,
            };
            let (body, tagged) = forward.with_route_and_tag("r", "id-1");
            (String::from_utf8(body.to_vec()).unwrap(), tagged)
        };
        let (body, was) = tagged(SEND);
        let tag = "&Tags.member.3.Name=ses-breaker-held&Tags.member.3.Value=id-1";
        assert_eq!((body, was), (format!("{SEND}&ConfigurationSetName=r{tag}"), true));
        let raw = |field: &str| {
            let mail = raw::encoded(format!("From: a@b.example\nTo: x@gmail.com\n{field}\n\n").as_bytes());
            let escaped = mail.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            tagged(&format!("Action=SendRawEmail&RawMessage.Data={escaped}"))
        };
        assert!(raw("X-A: b").0.ends_with("&Tags.member.1.Name=ses-breaker-held&Tags.member.1.Value=id-1"));
        assert!(!raw("X-SES-MESSAGE-TAGS: a=b").1);
        let bulk = "Action=SendBulkTemplatedEmail&Source=a%40b.example&Destinations.member.4.Destination.ToAddresses.member.1=x%40gmail.com";
        assert!(tagged(bulk).0.contains("&DefaultTags.member.1.Name=ses-breaker-held"));
        let own = format!(
            "{bulk}&Destinations.member.4.ReplacementTags.member.1.Name=a&Destinations.member.4.ReplacementTags.member.1.Value=b"
        );
        assert!(tagged(&own).0.contains("&Destinations.member.4.ReplacementTags.member.2.Name=ses-breaker-held"));
    }

    #[test]
    fn a_mail_is_judged_by_its_parameters() {
        let Ok(Parsed::Single(mail, _)) = parsed(SEND) else { panic!() };
        assert_eq!((mail.class, mail.sender.identity.as_str()), (Class::Critical, "b.example"));
        assert_eq!(mail.recipients.into_keys().collect::<Vec<_>>(), ["gmail.com", "yahoo.com"]);
    }

    #[test]
    fn raw_mail_is_judged_by_its_header_and_by_the_destinations_if_there_are_any() {
        let mail = raw::encoded(b"From: a@b.example\nTo: x@gmail.com\nX-SES-CONFIGURATION-SET: codes\n\n>>>???");
        let escaped = mail.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let body = format!("Action=SendRawEmail&RawMessage.Data={escaped}&X=1");
        let Ok(Parsed::Single(judged, _)) = parsed(&body) else { panic!() };
        assert_eq!(judged.sender.set, "codes");
        assert_eq!(judged.recipients.into_keys().collect::<Vec<_>>(), ["gmail.com"]);
        let Ok(Parsed::Single(judged, _)) = parsed(&format!("{body}&Destinations.member.1=y@yahoo.com")) else {
            panic!()
        };
        assert_eq!(judged.recipients.into_keys().collect::<Vec<_>>(), ["yahoo.com"]);
        let made = forwarded(&body);
        let data = made.split(['&', '=']).nth(3).unwrap();
        let mail = raw::decoded(&percent_decoded(data).unwrap()).unwrap();
        assert_eq!(mail, b"From: a@b.example\nTo: x@gmail.com\nX-SES-CONFIGURATION-SET: route\n\n>>>???");
        assert_eq!(made.replace(data, ""), "Action=SendRawEmail&RawMessage.Data=&X=1&ConfigurationSetName=route");
    }

    #[test]
    fn what_ses_might_read_differently_is_refused() {
        for (body, expected) in [
            (format!("{SEND}&Source=a"), "the form has a parameter twice"),
            (format!("{SEND}&Sourc%65=a"), "the form has a parameter twice"),
            (
                format!("{SEND}&Destination.ToAddresses.entry.1=z@gmail.com"),
                "a parameter of Destination is not known, or empty",
            ),
            (
                format!("{SEND}&destination.ToAddresses.member.1=z@gmail.com"),
                "a parameter of Destination is not known, or empty",
            ),
            (
                format!("{SEND}&Destination.ToAddresses.member.01=z@gmail.com"),
                "a parameter of Destination is not known, or empty",
            ),
            (format!("{SEND}&Destination.ToAddresses.member.2="), "a parameter of Destination is not known, or empty"),
            (
                format!("{SEND}&Destination.ToAddresses.member.2=a%0d%0aBcc:b@gmail.com"),
                "recipients: an address has a control character",
            ),
            (format!("{SEND}&ConfigurationSetName=a%26b"), "the configuration set has a character"),
            (format!("{SEND}&A=%4"), "the body"),
            ("Action=SendRawEmail&Source=a@b.example".to_owned(), "RawMessage.Data is missing"),
            ("Action=SendRawEmail&RawMessage.Data=*".to_owned(), "the raw message is not base64"),
            (
                "Action=SendEmail&Destination.ToAddresses.member.1=a@b.example".to_owned(),
                "the mail has no From address",
            ),
        ] {
            match parsed(&body) {
                Err(Fault::Malformed(text)) => assert!(text.starts_with(expected), "{text}: {body}"),
                // What is not read is passed on as it is.
                Ok(_) if expected == "the body" => {}
                other => panic!("{other:?}: {body}"),
            }
        }
        for unsupported in ["", "Action=VerifyEmailIdentity", "Action=sendemail"] {
            assert!(matches!(parsed(unsupported), Err(Fault::Unsupported(_))), "{unsupported}");
        }
    }

    const BULK: &str = "Action=SendBulkTemplatedEmail&ConfigurationSetName=s&Source=a@b.example&DefaultTags.member.1.Name=class&DefaultTags.member.1.Value=critical&Destinations.member.1.Destination.ToAddresses.member.1=x@gmail.com&Destinations.member.2.Destination.ToAddresses.member.1=y@yahoo.com&Destinations.member.2.ReplacementTags.member.1.Name=class&Destinations.member.2.ReplacementTags.member.1.Value=bulk&Destinations.member.10.Destination.BccAddresses.member.1=z@other.example&Destinations.member.10.ReplacementTemplateData=%7B%7D&Template=t";

    #[test]
    fn a_parameter_that_would_become_several_is_refused() {
        let hidden = "%26Destinations.member.1.Destination.BccAddresses.member.1%3Dvictim%40gmail.com%26y";
        for part in [hidden, "1.Nam", "x.Name", "1.Name%26y", "01.Name"] {
            let body = format!("{BULK}&Destinations.member.1.ReplacementTags.member.{part}=1");
            assert!(matches!(parsed(&body), Err(Fault::Malformed(_))), "{part}");
        }
    }

    #[test]
    fn a_bulk_request_is_cut_into_the_chosen_entries() {
        let Ok(Parsed::Bulk(mails, forward)) = parsed(BULK) else { panic!() };
        assert_eq!(
            mails.iter().map(|mail| mail.class).collect::<Vec<_>>(),
            [Class::Critical, Class::Bulk, Class::Critical]
        );
        let made = |chosen: &[usize]| String::from_utf8(forward.with_route("route", chosen).to_vec()).unwrap();
        assert_eq!(made(&[0, 1, 2]), BULK.replace("Name=s&", "Name=route&"));
        assert_eq!(
            made(&[0, 2]),
            "Action=SendBulkTemplatedEmail&ConfigurationSetName=route&Source=a@b.example&DefaultTags.member.1.Name=class&DefaultTags.member.1.Value=critical&Destinations.member.1.Destination.ToAddresses.member.1=x@gmail.com&Destinations.member.2.Destination.BccAddresses.member.1=z@other.example&Destinations.member.2.ReplacementTemplateData=%7B%7D&Template=t"
        );
        let unnamed = BULK.replace("ConfigurationSetName=s&", "");
        let Ok(Parsed::Bulk(_, forward)) = parsed(&unnamed) else { panic!() };
        let made = String::from_utf8(forward.with_route("route", &[1]).to_vec()).unwrap();
        assert!(made.ends_with("&Template=t&ConfigurationSetName=route"), "{made}");
        assert!(made.contains("&Destinations.member.1.ReplacementTags.member.1.Value=bulk&"), "{made}");
        let Ok(Parsed::Bulk(again, _)) = parsed(&made) else { panic!() };
        assert_eq!(
            again,
            [mails[1].clone()].map(|mut mail| {
                mail.sender.set = "route".to_owned();
                mail
            })
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..120), text in "[A-Za-z.=&%0-9+]{0,80}") {
            let _ = parse(body.into(), &rules());
            for action in Action::ALL {
                let _ = parsed(&format!("Action={}&{text}", action.name()));
                let _ = parsed(&format!("Action={}&Source=a@b.example&Destinations.member.{text}", action.name()));
            }
        }

        #[test]
        fn what_is_forwarded_equals_what_came_but_for_the_set(extra in "(&[a-z]{1,8}[0-9]{1,4}=[A-Za-z0-9%+.]{0,12}){0,4}") {
            if let Ok(Parsed::Single(_, forward)) = parsed(&format!("{SEND}{extra}")) {
                let made = String::from_utf8(forward.with_route("route").to_vec()).unwrap();
                prop_assert_eq!(made, format!("{SEND}{extra}&ConfigurationSetName=route"));
            }
        }
    }
}
