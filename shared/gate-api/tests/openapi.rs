//! The OpenAPI document, compared with the types: each path, property, required property, value and limit, in both
//! directions. What the gate really answers is held against the document in `tests/tests/stack/described.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use gate_api::{
    ALLOW, Class, ErrorCode, Health, HealthStatus, JSON, Limit, MAX_DOMAINS, MAX_LEASE, MAX_MAILS, MAX_NAME, MAX_SET,
    OPENAPI, PROBLEM_JSON, Permit, Permits, PermitsRequest, Problem, Quota, Quotas, RETRY_AFTER, ROUTES, ReturnRequest,
    Returned, SetQuotas, Slot,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn schema(document: &Value, name: &str) -> Value {
    document["components"]["schemas"][name].clone()
}

fn names(fields: &Value) -> BTreeSet<String> {
    fields.as_object().unwrap().keys().cloned().collect()
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Compares a schema with a value that has every property, and with one that has only what is never left out. `beyond`
/// are the properties that clients read and the gate of this release does not send.
fn check(name: &str, every: &impl Serialize, least: &impl Serialize, beyond: &[&str]) {
    let document = document();
    let schema = schema(&document, name);
    let every = json_of(every);
    let mut described = names(&schema["properties"]);
    for name in beyond {
        assert!(described.insert((*name).to_owned()), "{name} is described, and can be sent");
    }
    assert_eq!(names(&every), described, "properties of {name}");
    let required: BTreeSet<String> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(names(&json_of(least)), required, "required properties of {name}");
    assert_eq!(schema["additionalProperties"], false, "{name}");
    for (property, described) in schema["properties"].as_object().unwrap() {
        let described = match described["$ref"].as_str() {
            Some(pointer) => document.pointer(pointer.strip_prefix('#').unwrap()).unwrap(),
            None => described,
        };
        let found = kind_of(&every[property]);
        let expected = match described.get("const") {
            Some(value) => kind_of(value),
            None => described["type"].as_str().unwrap(),
        };
        assert_eq!(found, expected, "{name}.{property}");
    }
}

/// A request is also read: with all its properties, without each of them, and never with another one.
fn check_request<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, every: &T, least: &Value) {
    check(name, every, least, &[]);
    let read = |value: Value| serde_json::from_value::<T>(value);
    assert_eq!(read(json_of(every)).unwrap(), *every);
    assert!(read(least.clone()).is_ok(), "{name}");
    for property in names(&json_of(every)) {
        let mut without = json_of(every);
        without.as_object_mut().unwrap().remove(&property);
        assert_eq!(read(without).is_ok(), least.get(&property).is_none(), "{name} without {property}");
    }
    let mut more = json_of(every);
    more["more"] = json!(1);
    assert!(read(more).is_err(), "{name}");
}

#[test]
fn requests_are_as_described() {
    let every = PermitsRequest {
        request: Some("r-1".to_owned()),
        configuration_set: "news".to_owned(),
        identity: "example.com".to_owned(),
        class: Class::Critical,
        schedule: true,
        recipients: [("gmail.com".to_owned(), 1)].into(),
    };
    let mut least = json_of(&PermitsRequest { request: None, schedule: false, ..every.clone() });
    // Clients always write it; without it, it has its default.
    least.as_object_mut().unwrap().remove("class");
    check_request("PermitsRequest", &every, &least);
    let class = serde_json::from_value::<PermitsRequest>(least).unwrap().class;
    assert_eq!(json_of(&class), schema(&document(), "Class")["default"]);

    let back = ReturnRequest { configuration_set: "news".to_owned(), lease: "gmail/1".to_owned(), unused: 0 };
    check_request("ReturnRequest", &back, &json_of(&back));
}

#[test]
fn answers_are_as_described() {
    let permit = Permit {
        schedule: vec![Slot::default()],
        route: Some("news".to_owned()),
        lease: Some("gmail/1".to_owned()),
        expires_at: Some("2026-11-21T11:01:00.000Z".to_owned()),
        expires_in_seconds: Some(60),
        overflow_route: Some("news-shared".to_owned()),
        retry_after_seconds: Some(840),
        limit: Some(Limit::Pace),
        reason: Some("the day's quota comes in at 37 mails an hour".to_owned()),
        ..Permit::default()
    };
    check("Permit", &permit, &Permit::default(), &["expiresInSeconds"]);
    check("Slot", &Slot::default(), &Slot::default(), &[]);
    let (request, degraded) = (Some("r-1".to_owned()), Some("not counted".to_owned()));
    let permits = Permits { request, degraded, ..Permits::default() };
    check("Permits", &permits, &Permits::default(), &["request"]);
    check("Returned", &Returned { returned: 1 }, &Returned { returned: 1 }, &[]);
    let quota = Quota {
        isp: "gmail".to_owned(),
        day: "2026-11-21".to_owned(),
        quota: 400,
        granted: 120,
        reserve: 40,
        share: 0.5,
        step: "grew".to_owned(),
        reason: "grew from 200".to_owned(),
    };
    check("Quota", &quota, &quota, &[]);
    let set = SetQuotas { configuration_set: "news".to_owned(), target: 50_000, quotas: vec![quota] };
    check("SetQuotas", &set, &set, &[]);
    let quotas = Quotas { day: "2026-11-21".to_owned(), zone: "UTC".to_owned(), sets: vec![set] };
    check("Quotas", &quotas, &quotas, &[]);
    let health = Health { status: HealthStatus::Ok, policy_version: 1 };
    check("Health", &health, &health, &[]);
    assert_eq!(schema(&document(), "Health")["properties"]["status"]["const"], json_of(&HealthStatus::Ok));
    let problem = Problem { field: Some("/lease".to_owned()), ..Problem::default() };
    check("Problem", &problem, &Problem::default(), &[]);
}

#[test]
fn codes_are_as_described_and_those_of_later_releases_are_read_as_unknown() {
    let document = document();
    assert_eq!(schema(&document, "Class")["enum"], json_of(&Class::ALL));
    assert_eq!(schema(&document, "Permit")["properties"]["limit"]["enum"], json_of(&Limit::ALL));
    assert_eq!(schema(&document, "Problem")["properties"]["type"]["enum"], json_of(&ErrorCode::ALL));
    for class in Class::ALL {
        assert_eq!(json_of(&class), class.name());
    }
    for limit in Limit::ALL {
        assert_eq!(json_of(&limit), limit.name());
    }
    assert_eq!(serde_json::from_value::<Limit>(json!("weather")).unwrap(), Limit::Unknown);
    assert_eq!(serde_json::from_value::<ErrorCode>(json!("/problems/weather")).unwrap(), ErrorCode::Unknown);
    assert!(serde_json::from_value::<Class>(json!("urgent")).is_err());
}

#[test]
fn paths_media_types_and_headers_are_as_described() {
    let document = document();
    let mut routes = BTreeSet::new();
    let mut media = BTreeSet::new();
    let mut headers = BTreeSet::from([ALLOW.to_owned()]);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            routes.insert((method.to_ascii_uppercase(), path.clone()));
            let responses = operation["responses"].as_object().unwrap().values();
            for message in responses.chain([&operation["requestBody"]]) {
                let message = match message["$ref"].as_str() {
                    Some(pointer) => document.pointer(pointer.strip_prefix('#').unwrap()).unwrap(),
                    None => message,
                };
                media.extend(message["content"].as_object().into_iter().flat_map(|content| content.keys().cloned()));
                let named = message["headers"].as_object();
                headers.extend(named.into_iter().flat_map(|named| named.keys().map(|name| name.to_lowercase())));
            }
        }
    }
    assert_eq!(routes, ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned())).into());
    assert_eq!(media, [JSON, PROBLEM_JSON].map(str::to_owned).into());
    assert_eq!(headers, [ALLOW, RETRY_AFTER].map(str::to_owned).into());
}

#[test]
fn limits_are_as_described() {
    let document = document();
    let set = schema(&document, "ConfigurationSet");
    assert_eq!((&set["minLength"], &set["maxLength"]), (&json!(1), &json!(MAX_SET)));
    let request = &schema(&document, "PermitsRequest")["properties"];
    assert_eq!((&request["request"]["minLength"], &request["request"]["maxLength"]), (&json!(1), &json!(MAX_NAME)));
    let recipients = &request["recipients"];
    assert_eq!((&recipients["minProperties"], &recipients["maxProperties"]), (&json!(1), &json!(MAX_DOMAINS)));
    let mails = &recipients["additionalProperties"];
    assert_eq!((&mails["minimum"], &mails["maximum"]), (&json!(1), &json!(MAX_MAILS)));
    for schema in [schema(&document, "Permit"), schema(&document, "ReturnRequest")] {
        assert_eq!(schema["properties"]["lease"]["maxLength"], MAX_LEASE);
    }
    let mails = [0, 1, MAX_MAILS, MAX_MAILS + 1].map(|mails| json!(mails));
    // JSON Schema calls 200.0 an integer.
    let floats = [json!(200.0), json!(200.5), json!(-1.0), json!(1e300)];
    let allowed = [false, true, true, false, true, false, false, false];
    for (mails, is_allowed) in mails.into_iter().chain(floats).zip(allowed) {
        let request = json!({ "configurationSet": "n", "identity": "e", "recipients": { "gmail.com": mails } });
        assert_eq!(serde_json::from_value::<PermitsRequest>(request).is_ok(), is_allowed, "{mails}");
    }
}

#[test]
fn the_examples_of_problems_have_status_and_title_of_their_code() {
    let mut examples = 0;
    let document = document();
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if fields.get("title").is_some()
                    && let Ok(problem) = serde_json::from_value::<Problem>(value.clone())
                    && !problem.detail.is_empty()
                {
                    let code = problem.code;
                    assert_eq!((problem.title.as_str(), problem.status), (code.title(), code.status()), "{code:?}");
                    assert!(ErrorCode::ALL.contains(&code), "{value}");
                    examples += 1;
                }
                open.extend(fields.values());
            }
            Value::Array(values) => open.extend(values),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(examples >= 9, "{examples}");
}
