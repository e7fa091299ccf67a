//! The output against its documented schema, docs/doctor.schema.json. Knows the words that this schema uses and refuses any
//! other, so that none is overlooked.

use serde_json::Value;

const SCHEMA: &str = include_str!("../../../docs/doctor.schema.json");

pub(super) fn validate(document: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut wrong = Vec::new();
    check(&schema, document, "$", &mut wrong);
    assert!(wrong.is_empty(), "not as docs/doctor.schema.json says:\n{}", wrong.join("\n"));
}

fn check(schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let mut refuse = |why: String| wrong.push(format!("{place}: {why}"));
    for (word, wanted) in schema.as_object().expect("a schema is an object") {
        let right = match word.as_str() {
            "$schema" | "$defs" | "$ref" | "title" | "items" | "properties" => true,
            "type" => has_type(value, wanted.as_str().unwrap()),
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "pattern" => {
                assert_eq!(wanted, "^[a-z0-9-]+$", "only this pattern is known here");
                let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                value.as_str().is_some_and(|text| !text.is_empty() && text.bytes().all(letter))
            }
            "required" => {
                wanted.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "additionalProperties" => {
                assert_eq!(wanted, false, "only this is known here");
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_some_and(|object| object.keys().all(|key| known.contains_key(key)))
            }
            other => panic!("the schema uses {other:?}, which is not checked here"),
        };
        if !right {
            refuse(format!("{word} {wanted}: {value}"));
        }
    }
    if let Some(name) = schema.get("$ref") {
        let name = name.as_str().and_then(|name| name.strip_prefix("#/$defs/")).expect("a name in $defs");
        let whole: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        check(&whole["$defs"][name], value, place, wrong);
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(key) {
            check(schema, value, &format!("{place}.{key}"), wrong);
        }
    }
    if let Some(schema) = schema.get("items") {
        for (at, value) in value.as_array().into_iter().flatten().enumerate() {
            check(schema, value, &format!("{place}[{at}]"), wrong);
        }
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("type {other:?} is not known here"),
    }
}

#[test]
fn a_wrong_document_is_refused() {
    let row = |key: &str, value: Value| {
        let mut row = serde_json::json!({
            "id": "x", "group": "host", "title": "t", "severity": "broken", "status": "ok", "object": "", "found": "", "fix": ""
        });
        row[key] = value;
        let summary =
            serde_json::json!({"ok": 1, "broken": 0, "warnings": 0, "notes": 0, "skipped": 0, "unknown": 0});
        serde_json::json!({"version": 1, "findings": [row], "summary": summary})
    };
    validate(&row("id", "x-1".into()));
    let after = |key: &str, value: Value| {
        let mut document = row("id", "x-1".into());
        document["before"] = document["findings"].clone();
        document["repair"] = serde_json::json!({
            "version": 1, "dry_run": false, "attachments": 0, "changes": [], "failures": [], "notes": []
        });
        document["repair"][key] = value;
        document
    };
    validate(&after("attachments", 1.into()));
    assert!(std::panic::catch_unwind(|| validate(&after("dry_run", 1.into()))).is_err());
    for (key, value) in [
        ("id", "X 1".into()),
        ("status", "fine".into()),
        ("group", 7.into()),
        ("object", Value::Null),
        ("extra", "x".into()),
    ] {
        let refused = std::panic::catch_unwind(|| validate(&row(key, value)));
        assert!(refused.is_err(), "{key}");
    }
}
