//! Every field of every body and every parameter of every query, as the program itself describes
//! them, sent as they must not be: each time a clear refusal that names it, never a failure of the
//! server. A route that is described is tried by that alone.

use serde_json::{Value, json};

use crate::harness::client::send;
use crate::harness::{ADMIN, Client, Reply, Server};

on_both!(fields, queries, bodies);

const NOWHERE: &str = "00000000-0000-7000-8000-000000000000";

/// A described operation.
struct Operation {
    method: String,
    path: String,
    queries: Vec<String>,
    /// Names, whether each is required, and its description.
    fields: Vec<(String, bool, Value)>,
}

/// Whoever may ask everything, so that only what is sent can be at fault.
async fn asker(server: &Server) -> Client {
    server.sign_in(ADMIN).await.writing()
}

async fn operations(server: &Server) -> Vec<Operation> {
    let reply = server.anonymous().get("/api/v1/openapi.json").await;
    let document = reply.json;
    let resolve = |schema: &Value| -> Value {
        let reference = schema["$ref"]
            .as_str()
            .map(|text| text.trim_start_matches('#'));
        reference
            .and_then(|pointer| document.pointer(pointer))
            .unwrap_or(schema)
            .clone()
    };
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let parameters = operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let queries = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "query")
                .map(|parameter| parameter["name"].as_str().expect("a name").to_owned())
                .collect();
            let body = resolve(&operation["requestBody"]["content"]["application/json"]["schema"]);
            let required = body["required"].as_array().cloned().unwrap_or_default();
            let fields = body["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| {
                    (
                        name.clone(),
                        required.contains(&json!(name)),
                        resolve(schema),
                    )
                })
                .collect();
            let mut address = format!("/api/v1{path}");
            // A socket takes nothing but a credential; those are tried by themselves.
            if path.starts_with("/ws/") {
                continue;
            }
            if path.starts_with("/.well-known") {
                address.clone_from(path);
            }
            while let (Some(from), Some(to)) = (address.find('{'), address.find('}')) {
                address.replace_range(from..=to, NOWHERE);
            }
            found.push(Operation {
                method: method.to_uppercase(),
                path: address,
                queries,
                fields,
            });
        }
    }
    assert!(found.len() > 50, "{}", found.len());
    found
}

/// The JSON types that a schema takes.
fn types(schema: &Value) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    match &schema["type"] {
        Value::String(one) => types.push(one.clone()),
        Value::Array(several) => {
            types.extend(several.iter().filter_map(|t| t.as_str().map(str::to_owned)));
        }
        _ => {}
    }
    for part in ["oneOf", "anyOf"] {
        for schema in schema[part].as_array().into_iter().flatten() {
            types.extend(self::types(schema));
        }
    }
    types
}

/// A value of the right type, which may well break a rule.
fn placeholder(schema: &Value) -> Value {
    let types = types(schema);
    let has = |wanted: &str| types.iter().any(|t| t == wanted);
    if has("string") {
        json!("x")
    } else if has("integer") {
        json!(1)
    } else if has("boolean") {
        json!(true)
    } else if has("array") {
        json!([])
    } else {
        json!({})
    }
}

async fn ask(client: &Client, operation: &Operation, body: &Value) -> Reply {
    let request = client
        .request(&operation.method, &operation.path)
        .json(body);
    send(request).await
}

async fn fields(server: &mut Server) {
    let client = asker(server).await;
    for operation in operations(server).await {
        let route = format!("{} {}", operation.method, operation.path);
        let mut good = json!({});
        for (name, required, schema) in &operation.fields {
            if *required {
                good[name] = placeholder(schema);
            }
        }
        for (name, required, schema) in &operation.fields {
            let taken = types(schema);
            let mut wrong = vec![];
            for (kind, value) in [
                ("string", json!("text")),
                ("integer", json!(18.5)),
                ("boolean", json!(true)),
                ("array", json!([])),
                ("object", json!({})),
            ] {
                // A description without types takes anything.
                if !taken.is_empty() && !taken.iter().any(|t| t == kind) {
                    wrong.push(value);
                }
            }
            if *required {
                wrong.push(Value::Null);
            }
            for value in wrong {
                let mut body = good.clone();
                body[name] = value;
                let reply = ask(&client, &operation, &body).await;
                // What is switched off says that first.
                if reply.status == 501 {
                    continue;
                }
                assert_eq!(reply.status, 400, "{route} {body}: {reply:?}");
                assert!(names(&reply, name), "{route} {body}: {reply:?}");
            }
            if *required {
                let mut body = good.clone();
                body.as_object_mut().expect("an object").remove(name);
                let reply = ask(&client, &operation, &body).await;
                assert_eq!(reply.status, 400, "{route} {body}: {reply:?}");
                assert!(names(&reply, name), "{route} {body}: {reply:?}");
            }
            let long = "x".repeat(200_000);
            let texts = [
                "",
                " ",
                "a\u{0}b",
                "a\nb",
                "\u{202e}\u{feff}",
                "аdmin@ехаmple.org",
                &long,
            ];
            let odd: Vec<Value> = if taken.iter().any(|t| t == "string") {
                texts.map(|text| json!(text)).into()
            } else if taken.iter().any(|t| t == "integer") {
                [json!(-1), json!(0), json!(1_u64 << 63), json!(1e300)].into()
            } else if taken.iter().any(|t| t == "array") {
                let many = vec!["x"; 5000];
                vec![
                    json!([null]),
                    json!([7]),
                    json!([[]]),
                    json!(["a\u{0}"]),
                    json!(many),
                ]
            } else {
                vec![
                    json!({ "a\u{0}": "b" }),
                    json!({ "a": "\u{0}" }),
                    json!({ "": {} }),
                ]
            };
            for value in odd {
                let mut body = good.clone();
                body[name] = value;
                let reply = ask(&client, &operation, &body).await;
                let shown: String = body.to_string().chars().take(200).collect();
                assert!(
                    reply.status < 500 || reply.status == 501,
                    "{route} {shown}: {reply:?}"
                );
                server_secrets(server, &reply);
            }
        }
    }
}

/// Whether the sentence is about the field, by its name or in words: `redirect URI`.
fn names(reply: &Reply, field: &str) -> bool {
    let message = reply.message().to_lowercase();
    let words = field.replace('_', " ");
    message.contains(field) || message.contains(words.trim_end_matches('s'))
}

/// What was made by the way must not be in the log either.
fn server_secrets(server: &Server, reply: &Reply) {
    for field in ["token", "client_secret", "link", "ticket"] {
        if let Some(secret) = reply.json["data"][field].as_str() {
            server.secret(secret);
        }
    }
}

async fn queries(server: &mut Server) {
    let client = asker(server).await;
    for operation in operations(server).await {
        if operation.method != "GET" {
            continue;
        }
        for name in &operation.queries {
            let path = &operation.path;
            let reply = client.get(&format!("{path}?{name}=1&{name}=2")).await;
            // What is looked for in the path, or is switched off, may be missed first.
            if !matches!(reply.status, 404 | 501) {
                assert_eq!(reply.status, 400, "{path} {name} twice: {reply:?}");
                assert!(
                    reply.message().contains(name.as_str()),
                    "{path} {name} twice: {reply:?}"
                );
            }
            for value in [
                "",
                "%00",
                "%ff",
                "-1",
                "1e9",
                "99999999999999999999",
                "%F0%9F%92%A9",
                "x".repeat(5000).as_str(),
            ] {
                let reply = client.get(&format!("{path}?{name}={value}")).await;
                assert!(
                    reply.status < 500 || reply.status == 501,
                    "{path} {name}={value:.20}: {reply:?}"
                );
            }
        }
    }
}

/// What is no object at all, or too much of it.
async fn bodies(server: &mut Server) {
    let client = asker(server).await;
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let large = format!("{{\"x\":\"{}\"}}", "a".repeat(10 << 20));
    for operation in operations(server).await {
        if operation.fields.is_empty() {
            continue;
        }
        let route = format!("{} {}", operation.method, operation.path);
        let raw = async |body: Vec<u8>| {
            let request = client
                .request(&operation.method, &operation.path)
                .body(body);
            send(request.header("content-type", "application/json")).await
        };
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"7",
            b"\"x\"",
            b"{\"x\":\"\xff\"}",
            b"\xff\xfe",
            b"{\"a\":1,}",
            deep.as_bytes(),
        ] {
            let reply = raw(body.to_vec()).await;
            assert_eq!(
                (reply.status, reply.code()),
                (400, "BAD_REQUEST"),
                "{route}: {reply:?}"
            );
        }
        let reply = raw(large.clone().into_bytes()).await;
        reply.is(413, "PAYLOAD_TOO_LARGE");
    }
}
