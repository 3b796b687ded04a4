//! The gate's OpenAPI document, compared with the gate: every request of a test goes through [`ask`], which validates request
//! and answer against the document. `shared/gate-api/tests/openapi.rs` compares the document with the types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex};

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use e2e::stack::{Reply, WarmGate};
use gate_api::{ErrorCode, JSON, OPENAPI, PROBLEM_JSON};
use jsonschema::Validator;
use reputation::time::Now;
use serde_json::{Value, json};

/// Method, path and status.
type Exchange = (String, String, i64);

pub(crate) struct Described {
    document: Value,
    /// By the name of the schema.
    validators: BTreeMap<String, Validator>,
    /// All exchanges of this process so far.
    seen: Mutex<BTreeSet<Exchange>>,
}

pub(crate) static DESCRIBED: LazyLock<Described> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let validator = |name: &String| {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": format!("#/components/schemas/{name}"),
            "components": document["components"],
        });
        (name.clone(), jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
    };
    let validators = schemas.keys().map(validator).collect();
    Described { document, validators, seen: Mutex::default() }
});

impl Described {
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(pointer) => self.document.pointer(pointer.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        self.document["paths"].get(path)?.get(method.to_ascii_lowercase())
    }

    /// The errors of a value, by an inline schema or the name of one.
    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let list = |errors: jsonschema::ErrorIterator<'_>| {
            errors.map(|error| format!("{} at {}", error, error.instance_path())).collect()
        };
        match schema["$ref"].as_str().and_then(|pointer| pointer.strip_prefix("#/components/schemas/")) {
            Some(name) => list(self.validators[name].iter_errors(value)),
            None => list(jsonschema::validator_for(schema).unwrap().iter_errors(value)),
        }
    }

    fn check(&self, request: &LambdaFunctionUrlRequest, reply: &Reply) {
        let method = request.request_context.http.method.as_deref().unwrap();
        let path = request.raw_path.as_deref().unwrap();
        let takes_get = DESCRIBED.operation("GET", path).is_some();
        if method == "OPTIONS" && DESCRIBED.document["paths"].get(path).is_some() {
            assert_eq!((reply.status, &reply.body), (204, &Value::Null), "{reply:?}");
            assert_eq!(reply.headers["allow"], if takes_get { "GET, HEAD, OPTIONS" } else { "POST, OPTIONS" });
            return;
        }
        let media = if reply.status < 300 { JSON } else { PROBLEM_JSON };
        assert_eq!(reply.headers["content-type"], media, "{reply:?}");
        let problem = json!({ "$ref": "#/components/schemas/Problem" });
        if method == "HEAD" {
            assert_eq!((&reply.body, reply.status < 300), (&Value::Null, takes_get), "{reply:?}");
            return;
        }
        let Some(operation) = self.operation(method, path) else {
            assert!([404, 405].contains(&reply.status), "{reply:?}");
            assert_eq!(self.errors(&problem, &reply.body), [""; 0], "{reply:?}");
            return;
        };
        let response = operation["responses"].get(reply.status.to_string());
        let response = self.resolved(response.unwrap_or_else(|| panic!("{method} {path} gives {reply:?}")));
        let schema = &response["content"][media]["schema"];
        assert_eq!(self.errors(schema, &reply.body), [""; 0], "{reply:?}");
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let value = &reply.headers[&name.to_ascii_lowercase()];
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            assert_eq!(self.errors(&header["schema"], &value), [""; 0]);
        }
        if reply.status >= 400 {
            assert_eq!(reply.body["status"], reply.status);
        }
        // A request that violates the document is refused; one that is refused for its shape violates the document.
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if let Some(body) = request.body.as_deref().filter(|_| !request.is_base64_encoded && !schema.is_null()) {
            let refused = [400, 413, 415, 422].contains(&reply.status);
            let errors =
                serde_json::from_str(body).map_or(vec!["no JSON".to_owned()], |body| self.errors(schema, &body));
            assert!(refused || errors.is_empty(), "{errors:?} {reply:?}");
            let of_shape = ["/problems/not-json", "/problems/unknown-field", "/problems/missing-field"];
            if of_shape.iter().any(|kind| reply.body["type"] == *kind) {
                assert!(!errors.is_empty(), "{reply:?}");
            }
        }
        self.seen.lock().unwrap().insert((method.to_owned(), path.to_owned(), reply.status));
    }

    /// The exchanges of the document.
    fn described(&self) -> BTreeSet<Exchange> {
        let mut described = BTreeSet::new();
        for (path, item) in self.document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for status in operation["responses"].as_object().unwrap().keys() {
                    described.insert((method.to_ascii_uppercase(), path.clone(), status.parse().unwrap()));
                }
            }
        }
        described
    }
}

/// Sends a request to a gate, and validates request and answer against the document.
pub(crate) async fn ask(gate: &mut WarmGate, request: &LambdaFunctionUrlRequest, now: Now) -> Reply {
    let reply = gate.ask(request, now).await;
    DESCRIBED.check(request, &reply);
    reply
}

/// The exchanges of the document that did not occur, and those that occurred without being in it. For a test that has sent
/// every kind of request.
pub(crate) fn left_out() -> Vec<Exchange> {
    DESCRIBED.described().symmetric_difference(&DESCRIBED.seen.lock().unwrap()).cloned().collect()
}

#[test]
fn the_document_describes_the_status_of_every_problem() {
    let statuses: BTreeSet<i64> =
        DESCRIBED.described().iter().map(|(_, _, status)| *status).filter(|s| *s >= 400).collect();
    // Paths and methods outside the document are refused with problems of their own.
    let outside = [ErrorCode::UnknownPath, ErrorCode::MethodNotAllowed];
    let codes = ErrorCode::ALL.iter().filter(|code| !outside.contains(code));
    assert_eq!(statuses, codes.map(|code| i64::from(code.status())).collect());
}

#[test]
fn the_examples_of_the_document_are_as_described() {
    let mut examples = 0;
    let mut open = vec![&DESCRIBED.document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(schema) = fields.get("schema") {
                    let several = fields.get("examples").and_then(Value::as_object).into_iter().flatten();
                    let several = several.map(|(_, example)| &example["value"]);
                    for example in fields.get("example").into_iter().chain(several) {
                        assert_eq!(DESCRIBED.errors(schema, example), [""; 0], "{example}");
                        examples += 1;
                    }
                }
                open.extend(fields.values());
            }
            Value::Array(values) => open.extend(values),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(examples >= 15, "{examples}");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let mut open = vec![&DESCRIBED.document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("$ref") {
                    assert!(DESCRIBED.resolved(value).is_object());
                }
                open.extend(fields.values());
            }
            Value::Array(values) => open.extend(values),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
