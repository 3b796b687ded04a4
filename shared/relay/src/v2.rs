//! Requests of API v2: JSON.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::answer::{Fault, Protocol};
use crate::forward::{BulkForward, Entries, Forward, HELD_TAG, MAX_TAGS, Parsed, RawField, SetPlace, TagPlace};
use crate::mail::{MAX_RECIPIENTS, Rules, SET_FIELD, Said, TAGS_FIELD, Unclear};
use crate::mime::Header;
use crate::raw;

/// The path of SendEmail.
pub(crate) const SEND: &str = "/v2/email/outbound-emails";
/// The path of SendBulkEmail.
pub(crate) const SEND_BULK: &str = "/v2/email/outbound-bulk-emails";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendEmail<'a> {
    from_email_address: Option<String>,
    destination: Option<Destination>,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    email_tags: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    configuration_set_name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendBulkEmail<'a> {
    from_email_address: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    default_email_tags: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    bulk_email_entries: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    configuration_set_name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BulkEntry<'a> {
    destination: Option<Destination>,
    #[serde(borrow, default, deserialize_with = "present")]
    replacement_tags: Option<&'a RawValue>,
}

/// A member of it that this release does not know might name recipients, so there must be none.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Destination {
    to_addresses: Option<Vec<String>>,
    cc_addresses: Option<Vec<String>>,
    bcc_addresses: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content<'a> {
    #[serde(borrow)]
    raw: Option<Raw<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    name: String,
    value: String,
}

/// With `null` as a value, whose place must be known.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a request.
///
/// # Errors
///
/// The fault to answer.
pub(crate) fn parse(path: &str, body: Bytes, rules: &Rules) -> Result<Parsed, Fault> {
    match path {
        SEND => single(body, rules),
        SEND_BULK => bulk(body, rules),
        _ => Err(Fault::Unsupported(format!(
            "the relay supports SendEmail (POST {SEND}) and SendBulkEmail (POST {SEND_BULK}); send other requests to SES \
             itself"
        ))),
    }
}

fn single(body: Bytes, rules: &Rules) -> Result<Parsed, Fault> {
    let text = text_of(&body)?;
    let request: SendEmail<'_> = from_json(text)?;
    let tags = tags_of(request.email_tags)?;
    let mut tag = tag_place(text, "EmailTags", request.email_tags, tags.as_deref());
    let mut said = Said {
        set: set_of(request.configuration_set_name)?,
        from: request.from_email_address,
        class: class_in(tags.as_deref(), rules),
        ..Said::default()
    };
    add(&mut said, request.destination.unwrap_or_default())?;
    let content = request.content.ok_or_else(|| Fault::Malformed("Content is missing".to_owned()))?;
    let field = match content.raw {
        Some(raw) => {
            let string = string_of(raw.data)?;
            let mail = raw::beginning(&string).map_err(malformed)?;
            let header = Header::parse(&mail).map_err(malformed)?;
            // Two names of the set must not be left, whichever the caller meant.
            header.one(&mail, SET_FIELD).map_err(malformed)?;
            // SES takes the tags of the field only if the request has none.
            if tags.is_none_or(|tags| tags.is_empty()) && header.one(&mail, TAGS_FIELD).map_err(malformed)?.is_some() {
                tag = None;
            }
            said.complete(&mail, &header, &rules.class_tag).map_err(unclear)?;
            let data = place_in(text, raw.data.get());
            header.place(&mail, SET_FIELD).map(|value| (data, value, string.into_owned()))
        }
        None => None,
    };
    let field = match field {
        Some((data, value, string)) => {
            let data = data.start + 1..data.end - 1;
            Some(RawField { data, mail: raw::decoded(&string).map_err(malformed)?, value, protocol: Protocol::V2 })
        }
        None => None,
    };
    let set = set_place(text, request.configuration_set_name);
    let mail = rules.judge(said).map_err(unclear)?;
    Ok(Parsed::Single(mail, Forward { body: body.clone(), set, field, tag }))
}

fn bulk(body: Bytes, rules: &Rules) -> Result<Parsed, Fault> {
    let text = text_of(&body)?;
    let request: SendBulkEmail<'_> = from_json(text)?;
    let list = request.bulk_email_entries.ok_or_else(|| Fault::Malformed("BulkEmailEntries is missing".to_owned()))?;
    let entries: Vec<&RawValue> = from_json(list.get())?;
    if entries.is_empty() || entries.len() as u64 > MAX_RECIPIENTS {
        return Err(Fault::Malformed(format!(
            "BulkEmailEntries has {} entries, not 1 to {MAX_RECIPIENTS}",
            entries.len()
        )));
    }
    let set = set_of(request.configuration_set_name)?;
    let default_tags = tags_of(request.default_email_tags)?;
    let default_class = class_in(default_tags.as_deref(), rules);
    let mut tag = tag_place(text, "DefaultEmailTags", request.default_email_tags, default_tags.as_deref());
    let mut mails = Vec::with_capacity(entries.len());
    for entry in &entries {
        let BulkEntry { destination, replacement_tags: written } = from_json(entry.get())?;
        let replacement_tags = tags_of(written)?;
        // Only a call of one entry is tagged, and its own tags may stand in the place of the default ones.
        if replacement_tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
            tag = tag_place(text, "ReplacementTags", written, replacement_tags.as_deref());
        }
        let mut said = Said {
            set: set.clone(),
            from: request.from_email_address.clone(),
            class: class_in(replacement_tags.as_deref(), rules).or_else(|| default_class.clone()),
            ..Said::default()
        };
        add(&mut said, destination.unwrap_or_default())?;
        mails.push(rules.judge(said).map_err(unclear)?);
    }
    let each = entries.iter().map(|entry| place_in(text, entry.get())).collect();
    let entries = Entries::Json { list: place_in(text, list.get()), each };
    let set = set_place(text, request.configuration_set_name);
    let forward = Forward { body: body.clone(), set, field: None, tag: tag.filter(|_| mails.len() == 1) };
    Ok(Parsed::Bulk(mails, BulkForward { forward, entries }))
}

fn text_of(body: &Bytes) -> Result<&str, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::Malformed("the body is not UTF-8".to_owned()))?;
    if text.trim_start().starts_with('{') {
        Ok(text)
    } else {
        Err(Fault::Malformed("the body is not a JSON object".to_owned()))
    }
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    // The message of the error may quote a value, which may be an address.
    serde_json::from_str(text).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "has a member of another type, or one twice",
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => "is not valid JSON",
        };
        Fault::Malformed(format!("the body {what}, at line {} column {}", error.line(), error.column()))
    })
}

/// Where a part of the text is in it.
fn place_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// The text of a JSON string, copied only if it has escapes.
fn string_of(value: &RawValue) -> Result<std::borrow::Cow<'_, str>, Fault> {
    let text = value.get();
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(plain.into()),
        Some(_) => from_json::<String>(text).map(Into::into),
        None => Err(Fault::Malformed("Content.Raw.Data is not a string".to_owned())),
    }
}

fn set_of(value: Option<&RawValue>) -> Result<Option<String>, Fault> {
    value.map_or(Ok(None), |value| from_json(value.get()))
}

fn set_place(text: &str, value: Option<&RawValue>) -> SetPlace {
    match value {
        Some(value) => SetPlace { place: place_in(text, value.get()), before: "\"", after: "\"" },
        None => {
            let at = text.find('{').map_or(0, |brace| brace + 1);
            SetPlace { place: at..at, before: "\"ConfigurationSetName\":\"", after: "\"," }
        }
    }
}

fn tags_of(value: Option<&RawValue>) -> Result<Option<Vec<Tag>>, Fault> {
    value.map_or(Ok(None), |value| from_json(value.get()))
}

/// Where a tag can be added to these.
fn tag_place(text: &str, member: &str, value: Option<&RawValue>, tags: Option<&[Tag]>) -> Option<TagPlace> {
    let tag = |around: &str| format!("{around}{{\"Name\":\"{HELD_TAG}\",\"Value\":\"");
    let tags = tags.unwrap_or_default();
    if tags.len() >= MAX_TAGS || tags.iter().any(|tag| tag.name == HELD_TAG) {
        return None;
    }
    Some(match value {
        Some(value) if !tags.is_empty() => {
            let start = place_in(text, value.get()).start + 1;
            TagPlace { place: start..start, before: tag(""), after: "\"}," }
        }
        Some(value) => TagPlace { place: place_in(text, value.get()), before: tag("["), after: "\"}]" },
        None => {
            let at = text.find('{').map_or(0, |brace| brace + 1);
            TagPlace { place: at..at, before: tag(&format!("\"{member}\":[")), after: "\"}]," }
        }
    })
}

fn class_in(tags: Option<&[Tag]>, rules: &Rules) -> Option<String> {
    tags?.iter().find(|tag| tag.name == rules.class_tag).map(|tag| tag.value.clone())
}

fn add(said: &mut Said, destination: Destination) -> Result<(), Fault> {
    let Destination { to_addresses, cc_addresses, bcc_addresses } = destination;
    for address in [to_addresses, cc_addresses, bcc_addresses].into_iter().flatten().flatten() {
        said.to.add_one(&address).map_err(unclear)?;
    }
    Ok(())
}

fn unclear(unclear: Unclear) -> Fault {
    malformed(unclear)
}

fn malformed(error: impl std::error::Error) -> Fault {
    Fault::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use permits::Class;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rules() -> Rules {
        Rules { default_set: Some("news".to_owned()), class_tag: "class".to_owned(), ..Rules::default() }
    }

    fn parsed(body: &str) -> Result<Parsed, Fault> {
        parse(SEND, Bytes::from(body.to_owned()), &rules())
    }

    fn forwarded(body: &str) -> String {
        let Ok(Parsed::Single(_, forward)) = parsed(body) else { panic!("{body}") };
        String::from_utf8(forward.with_route("route").to_vec()).unwrap()
    }

    const REST: &str = r#""FromEmailAddress": "A <a@b.example>", "Destination": {"ToAddresses":["x@gmail.com"],"BccAddresses":["\"y, z\" <y@yahoo.com>"]}, "Content":{"Simple":{"Unknown":[1.50,{}]}} , "Future":"é\u00e9""#;

    #[test]
    fn only_the_configuration_set_changes_wherever_it_is() {
        for set in [
            r#""ConfigurationSetName" : "news""#,
            r#""ConfigurationSetName" : null"#,
            r#""Configuration\u0053etName" : "a""#,
        ] {
            let before = format!("\n{{ {set},{REST} }} ");
            let key = set.split(" : ").next().unwrap();
            assert_eq!(forwarded(&before), format!("\n{{ {key} : \"route\",{REST} }} "));
            assert_eq!(forwarded(&format!("{{{REST},{set}}}")), format!("{{{REST},{key} : \"route\"}}"));
        }
        assert_eq!(forwarded(&format!("{{{REST}}}")), format!("{{\"ConfigurationSetName\":\"route\",{REST}}}"));
    }

    #[test]
    fn a_tag_is_added_to_those_that_are_there_and_left_out_where_ses_would_not_take_it() {
        let tagged = |path, body: &str| {
            let forward = match parse(path, Bytes::from(body.to_owned()), &rules()).unwrap() {
                Parsed::Single(_, forward) => forward,
                Parsed::Bulk(_, bulk) => bulk.forward,
            };
            let (body, tagged) = forward.with_route_and_tag("route", "id-1");
            (serde_json::from_slice::<Value>(&body).unwrap(), tagged)
        };
        let held = json!({ "Name": "ses-breaker-held", "Value": "id-1" });
        let other = json!({ "Name": "a", "Value": "b" });
        for (tags, expected) in [
            ("", json!([held])),
            (", \"EmailTags\": null", json!([held])),
            (", \"EmailTags\": [ ]", json!([held])),
            (", \"EmailTags\": [ {\"Name\":\"a\",\"Value\":\"b\"}]", json!([held, other])),
        ] {
            let (body, tagged) = tagged(SEND, &format!("{{{REST}{tags}}}"));
            assert!(tagged && body["ConfigurationSetName"] == "route" && body["EmailTags"] == expected, "{body}");
        }
        let fifty = vec![other.clone(); 50];
        let (body, was) = tagged(SEND, &format!("{{{REST}, \"EmailTags\": {}}}", json!(fifty)));
        assert!(!was && body["EmailTags"] == json!(fifty));
        // The field's tags would be lost.
        let raw = raw::encoded(b"From: a@b.example\r\nTo: x@gmail.com\r\nX-SES-MESSAGE-TAGS: a=b\r\n\r\n");
        let raw = json!({ "Content": { "Raw": { "Data": raw } } });
        assert!(!tagged(SEND, &raw.to_string()).1);

        let bulk = |default: Value, own: Value| {
            let entry = json!({ "Destination": { "ToAddresses": ["x@gmail.com"] }, "ReplacementTags": own });
            let body =
                json!({ "FromEmailAddress": "a@b.example", "DefaultEmailTags": default, "BulkEmailEntries": [entry] });
            let (body, tagged) = tagged(SEND_BULK, &body.to_string());
            assert!(tagged);
            (body["DefaultEmailTags"].clone(), body["BulkEmailEntries"][0]["ReplacementTags"].clone())
        };
        assert_eq!(bulk(json!([other]), json!(null)), (json!([held, other]), json!(null)));
        assert_eq!(bulk(json!([other]), json!([other])), (json!([other]), json!([held, other])));
    }

    #[test]
    fn recipients_of_all_kinds_are_counted_by_domain() {
        let Ok(Parsed::Single(mail, _)) = parsed(&format!("{{{REST}}}")) else { panic!() };
        assert_eq!(mail.sender.identity, "b.example");
        assert_eq!(
            mail.recipients.into_iter().collect::<Vec<_>>(),
            [("gmail.com".to_owned(), 1), ("yahoo.com".to_owned(), 1)]
        );
    }

    #[test]
    fn raw_mail_is_judged_by_its_header_and_by_the_destination_if_there_is_one() {
        let mail = "From: a@b.example\r\nTo: x@gmail.com\r\nX-SES-MESSAGE-TAGS: class=critical\r\n\r\nbody";
        let body = json!({ "Content": { "Raw": { "Data": raw::encoded(mail.as_bytes()) } } });
        let Ok(Parsed::Single(judged, _)) = parsed(&body.to_string()) else { panic!() };
        assert_eq!((judged.class, judged.recipients.keys().next().unwrap().as_str()), (Class::Critical, "gmail.com"));
        let mut body = body;
        body["Destination"] = json!({ "ToAddresses": ["y@yahoo.com"] });
        let Ok(Parsed::Single(judged, _)) = parsed(&body.to_string()) else { panic!() };
        assert_eq!(judged.recipients.into_keys().collect::<Vec<_>>(), ["yahoo.com"]);
    }

    #[test]
    fn a_field_that_names_another_set_is_made_to_name_the_route_and_nothing_else_of_the_mail_changes() {
        let mail = |set: &str| {
            let mail = format!("From: a@b.example\nTo: x@gmail.com\nx-ses-configuration-set:  {set}\n\nbody\u{e9}>?");
            raw::encoded(mail.as_bytes())
        };
        let body = |set: &str| json!({ "Content": { "Raw": { "Data": mail(set) } }, "X": 1 }).to_string();
        let expected = format!("{{\"ConfigurationSetName\":\"route\",{}", &body("route")[1..]);
        assert_eq!(forwarded(&body("codes")), expected);
        assert_eq!(forwarded(&body("route")), expected);
        // PHP escapes slashes.
        assert_eq!(forwarded(&body("codes").replace('/', "\\/")).replace("\\/", "/"), expected);
    }

    #[test]
    fn what_ses_might_read_differently_is_refused() {
        for (body, expected) in [
            ("[]".to_owned(), "the body is not a JSON object"),
            ("{\"a\":".to_owned(), "the body is not valid JSON, at line 1 column 5"),
            (format!("{{{REST}}} x"), "the body is not valid JSON"),
            (
                format!("{{{REST},\"ConfigurationSetName\":\"a\",\"ConfigurationSetName\":\"b\"}}"),
                "the body has a member of another type, or one twice",
            ),
            (format!("{{{REST},\"ConfigurationSetName\":7}}"), "the body has a member of another type"),
            (format!("{{{REST},\"ConfigurationSetName\":\"a b\"}}"), "the configuration set has a character"),
            (format!("{{{}}}", REST.replace("ToAddresses", "ToMore")), "the body has a member of another type"),
            (
                format!("{{{}}}", REST.replace("x@gmail.com", "x@gmail.com\\r\\nBcc: y@z.example")),
                "recipients: an address has a control character",
            ),
            (
                format!("{{{}}}", REST.replace("x@gmail.com", "x@gmail.com, y@gmail.com")),
                "recipients: one address is expected, not 2",
            ),
            (
                json!({ "FromEmailAddress": "a@b.example", "Destination": { "ToAddresses": ["x@y.example"] } })
                    .to_string(),
                "Content is missing",
            ),
            (json!({ "Content": { "Raw": { "Data": "*" } } }).to_string(), "the raw message is not base64"),
            (json!({ "Content": { "Raw": { "Data": "AAAA" } } }).to_string(), "line 1 of the header is not a field"),
            (json!({ "Content": { "Raw": { "Data": 1 } } }).to_string(), "Content.Raw.Data is not a string"),
        ] {
            match parsed(&body) {
                Err(Fault::Malformed(text)) => assert!(text.starts_with(expected), "{text}: {body}"),
                other => panic!("{other:?}: {body}"),
            }
        }
        assert!(matches!(parse(SEND, Bytes::from_static(b"{\xff}"), &rules()), Err(Fault::Malformed(_))));
        assert!(matches!(parse("/v2/email/identities", Bytes::new(), &rules()), Err(Fault::Unsupported(_))));
    }

    fn bulk_request(entries: usize) -> Value {
        let entries: Vec<Value> = (0..entries)
            .map(|number| {
                let class = if number == 1 { "critical" } else { "bulk" };
                json!({
                    "Destination": { "ToAddresses": [format!("r{number}@gmail.com")] },
                    "ReplacementTags": [{ "Name": "class", "Value": class }],
                })
            })
            .collect();
        json!({ "FromEmailAddress": "a@b.example", "BulkEmailEntries": entries, "DefaultContent": {}, "ConfigurationSetName": "s" })
    }

    #[test]
    fn a_bulk_request_is_cut_into_the_chosen_entries() {
        let request = bulk_request(3);
        let Ok(Parsed::Bulk(mails, forward)) = parse(SEND_BULK, request.to_string().into(), &rules()) else { panic!() };
        assert_eq!(
            mails.iter().map(|mail| mail.class).collect::<Vec<_>>(),
            [Class::Bulk, Class::Critical, Class::Bulk]
        );
        let mut expected = request.clone();
        expected["ConfigurationSetName"] = json!("route");
        let made = |chosen: &[usize]| serde_json::from_slice::<Value>(&forward.with_route("route", chosen)).unwrap();
        assert_eq!(made(&[0, 1, 2]), expected);
        expected["BulkEmailEntries"] = json!([request["BulkEmailEntries"][0], request["BulkEmailEntries"][2]]);
        assert_eq!(made(&[0, 2]), expected);
        for wrong in [0, 51] {
            let request = bulk_request(wrong).to_string().into();
            assert!(matches!(parse(SEND_BULK, request, &rules()), Err(Fault::Malformed(_))));
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..120), json in json_value()) {
            let _ = parse(SEND, body.clone().into(), &rules());
            let _ = parse(SEND_BULK, body.into(), &rules());
            let _ = parse(SEND, json.to_string().into(), &rules());
            for (path, member) in [(SEND, "Destination"), (SEND, "Content"), (SEND, "ConfigurationSetName"), (SEND_BULK, "BulkEmailEntries")] {
                let _ = parse(path, json!({ member: json, "Content": {} }).to_string().into(), &rules());
            }
        }

        #[test]
        fn what_is_forwarded_equals_what_came_but_for_the_set(
            extra in prop::collection::btree_map("[A-Z][a-z]{3,8}", json_value(), 0..4),
            set in prop::option::of("[a-z]{1,8}"),
            pretty in any::<bool>(),
        ) {
            let mut request = json!({
                "FromEmailAddress": "a@b.example",
                "Destination": { "ToAddresses": ["x@gmail.com"] },
                "Content": { "Simple": extra.values().next() },
            });
            for (key, value) in extra {
                request[format!("X{key}")] = value;
            }
            if let Some(set) = set {
                request["ConfigurationSetName"] = json!(set);
            }
            let body = if pretty { serde_json::to_string_pretty(&request).unwrap() } else { request.to_string() };
            let made: Value = serde_json::from_str(&forwarded(&body)).unwrap();
            request["ConfigurationSetName"] = json!("route");
            prop_assert_eq!(made, request);
        }
    }
}
