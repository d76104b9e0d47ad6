//! A call of each operation to copy, made of its description: what must be there, with the body's
//! example if its schema has one.
//!
//! To have a better one for a body, give it `#[schema(example = …)]`.

use serde_json::{Value, json};

use super::schema::{Shape, names};
use crate::web::routes::{Access, Endpoint, Surface, Verb};

/// The whole command; words in capitals behind a `$` are the reader's to set.
pub fn call(public_url: &str, document: &Value, endpoint: &Endpoint, operation: &Value) -> String {
    if endpoint.surface == Surface::Ws {
        let socket = public_url.replacen("http", "ws", 1);
        let path = path(endpoint);
        return format!(
            "websocat -H \"Authorization: Bearer $HZEL_TOKEN\" \\\n  \"{socket}{path}\""
        );
    }
    let content = &operation["requestBody"]["content"];
    let form = &content["application/x-www-form-urlencoded"]["schema"];
    let json = &content["application/json"]["schema"];
    let mut lines = Vec::new();
    if endpoint.streams {
        lines.push("-T notes.txt".to_owned());
    } else if form.is_object() {
        lines.extend(form_lines(document, form));
    } else if json.is_object() {
        lines.push("-H 'Content-Type: application/json'".to_owned());
        lines.push(format!(
            "-d '{}'",
            body(document, json).replace('\'', "'\\''")
        ));
    }
    let method = match endpoint.verb {
        Verb::Get if !operation["responses"]["200"]["content"]["text/event-stream"].is_null() => {
            " -N".to_owned()
        }
        Verb::Get if !operation["responses"]["302"].is_null() => " -i".to_owned(),
        // What they are sent with says them.
        Verb::Post if !lines.is_empty() => String::new(),
        Verb::Put if endpoint.streams => String::new(),
        Verb::Get => String::new(),
        verb => format!(" -X {}", verb.as_str()),
    };
    let mut all = vec![format!(
        "curl{method} \"{public_url}{}{}\"",
        path(endpoint),
        query(operation)
    )];
    all.extend(credentials(document, endpoint));
    all.extend(lines);
    all.join(" \\\n  ")
}

fn path(endpoint: &Endpoint) -> String {
    let parts = endpoint.path.split('/').map(|part| {
        let name = part.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
        name.map_or_else(|| part.to_owned(), variable)
    });
    parts.collect::<Vec<_>>().join("/")
}

fn variable(name: &str) -> String {
    format!("${}", name.to_ascii_uppercase())
}

/// Only what must be there.
fn query(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array();
    let pairs: Vec<String> = parameters
        .into_iter()
        .flatten()
        .filter(|parameter| parameter["in"] == "query" && parameter["required"] == true)
        .map(|parameter| {
            let name = parameter["name"].as_str().unwrap_or_default();
            let example = parameter["example"].as_str();
            let value = example.map_or_else(|| variable(name), str::to_owned);
            format!("{name}={value}")
        })
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}

fn credentials(document: &Value, endpoint: &Endpoint) -> Vec<String> {
    match endpoint.access {
        Access::Anyone => Vec::new(),
        Access::Any | Access::Direct => {
            vec!["-H \"Authorization: Bearer $HZEL_TOKEN\"".to_owned()]
        }
        Access::Session => {
            let cookie = &document["components"]["securitySchemes"]["session"]["name"];
            let cookie = cookie.as_str().unwrap_or_default();
            let mut lines = vec![format!("-b \"{cookie}=$SESSION\"")];
            if endpoint.verb != Verb::Get {
                lines.push("-H \"x-csrf-token: $CSRF_TOKEN\"".to_owned());
            }
            lines
        }
    }
}

/// A value of the right type.
fn sample(document: &Value, schema: &Value) -> Value {
    let shape = Shape::of(document, schema);
    match shape.kind(document).as_str() {
        "string" => json!("…"),
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        kind if kind.ends_with("[]") => json!([]),
        _ => json!({}),
    }
}

/// The fields of an example, in the order of the description.
fn values(document: &Value, schema: &Value) -> Vec<(String, Value)> {
    let schema = Shape::of(document, schema).schema;
    let example = schema["example"].as_object();
    names(schema)
        .into_iter()
        .filter_map(|(name, required)| {
            let value = match example {
                Some(example) => example.get(name).cloned(),
                None => required.then(|| sample(document, &schema["properties"][name])),
            };
            value.map(|value| (name.to_owned(), value))
        })
        .collect()
}

fn body(document: &Value, schema: &Value) -> String {
    let values = values(document, schema);
    let pairs: Vec<String> = values
        .into_iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn form_lines(document: &Value, schema: &Value) -> Vec<String> {
    values(document, schema)
        .into_iter()
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("--data-urlencode \"{name}={text}\"")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::web::{openapi, routes};

    fn call(method: &str, path: &str) -> String {
        let url = "https://hzel.example.org";
        let document = openapi::document(url);
        let endpoint = routes::table()
            .find(|e| e.verb.as_str() == method && e.path == path)
            .unwrap();
        let verb = method.to_ascii_lowercase();
        let operation = &document["paths"][openapi::path_of(endpoint)][verb];
        super::call(url, &document, endpoint, operation)
    }

    #[test]
    fn calls_can_be_pasted() {
        assert_eq!(
            call("POST", "/api/v1/containers"),
            "curl \"https://hzel.example.org/api/v1/containers\" \\\n  \
             -H \"Authorization: Bearer $HZEL_TOKEN\" \\\n  \
             -H 'Content-Type: application/json' \\\n  \
             -d '{\"hostname\": \"my-box\", \"cpu_cores\": 1, \"disk_gb\": 18, \"memory_mb\": 512}'"
        );
        assert_eq!(
            call("DELETE", "/api/v1/containers/{id}/files"),
            "curl -X DELETE \"https://hzel.example.org/api/v1/containers/$ID/files?path=/root/notes.txt\" \\\n  \
             -H \"Authorization: Bearer $HZEL_TOKEN\""
        );
        assert_eq!(
            call("POST", "/api/v1/auth/logout"),
            "curl -X POST \"https://hzel.example.org/api/v1/auth/logout\" \\\n  \
             -b \"__Host-hzel_session=$SESSION\" \\\n  -H \"x-csrf-token: $CSRF_TOKEN\""
        );
        let socket = call("GET", "/ws/jobs/{job_id}");
        assert!(socket.contains("\"wss://hzel.example.org/ws/jobs/$JOB_ID\""));
        let token = call("POST", "/api/v1/oauth/token");
        assert!(token.contains("--data-urlencode \"grant_type=authorization_code\""));
        assert!(!token.contains("application/json"));
    }
}
