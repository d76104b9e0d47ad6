//! The schemas of the OpenAPI document, as lines for people: a name, a type, what it may be.
//!
//! To show one more property of schemas, extend [`limits`].

use serde_json::Value;

/// How deep things in things are shown.
const DEPTH: usize = 3;

/// A text in which what stands between backticks is code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(pub Vec<(bool, String)>);

impl Words {
    pub fn of(text: &str) -> Self {
        let text = text.replace('\n', " ");
        let parts = text.split('`').enumerate();
        let parts = parts.map(|(at, part)| (at % 2 == 1, part.to_owned()));
        Self(parts.filter(|(_, part)| !part.is_empty()).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A parameter, or a field of a body or an answer.
pub struct Field {
    pub name: String,
    pub kind: String,
    pub required: bool,
    pub about: Words,
}

impl Field {
    pub fn of_parameter(document: &Value, parameter: &Value) -> Self {
        let shape = Shape::of(document, &parameter["schema"]);
        Self {
            name: parameter["name"].as_str().unwrap_or_default().to_owned(),
            kind: shape.kind(document),
            required: parameter["required"] == true,
            about: about(&parameter["description"], &limits(shape.schema)),
        }
    }
}

/// A schema, seen through what stands around it.
pub struct Shape<'a> {
    /// Its reference followed.
    pub schema: &'a Value,
    /// What it is made of: the same, or of a list what is in it.
    pub item: &'a Value,
    pub nullable: bool,
    is_list: bool,
    /// What is said where it is used.
    description: &'a Value,
}

impl<'a> Shape<'a> {
    pub fn of(document: &'a Value, schema: &'a Value) -> Self {
        let (mut schema, mut nullable) = (schema, false);
        if let Some(parts) = schema["oneOf"].as_array() {
            nullable = parts.iter().any(|part| part["type"] == "null");
            if let Some(part) = parts.iter().find(|part| part["type"] != "null") {
                schema = part;
            }
        }
        let description = &schema["description"];
        schema = follow(document, schema);
        nullable |= types(schema).contains(&"null");
        let is_list = types(schema).contains(&"array");
        Self {
            schema,
            item: if is_list {
                follow(document, &schema["items"])
            } else {
                schema
            },
            nullable,
            is_list,
            description,
        }
    }

    /// Its type in a word, such as `string[]`.
    pub fn kind(&self, document: &Value) -> String {
        let types = types(self.schema);
        let name = types.iter().find(|name| **name != "null");
        match name.copied() {
            Some("array") => {
                let item = Shape::of(document, &self.schema["items"]).kind(document);
                format!("{item}[]")
            }
            Some("object") if self.schema["additionalProperties"].is_object() => {
                let value = Shape::of(document, &self.schema["additionalProperties"]);
                format!("{{name: {}}}", value.kind(document))
            }
            Some(name) => name.to_owned(),
            None => "any".to_owned(),
        }
    }

    /// What an answer is, in a sentence; `name` is where in the envelope it is.
    pub fn says(&self, name: &str) -> Words {
        let list = if self.is_list { "[]" } else { "" };
        let what = match self.item["description"].as_str() {
            Some(text) => text,
            None if types(self.item).is_empty() => "JSON.",
            None => "a text.",
        };
        if name.is_empty() {
            Words::of(&format!("Without the envelope: {what}"))
        } else {
            Words::of(&format!("`{name}{list}`: {what}"))
        }
    }
}

/// The schema that a reference leads to.
fn follow<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    schema["$ref"]
        .as_str()
        .and_then(|reference| document.pointer(reference.trim_start_matches('#')))
        .unwrap_or(schema)
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What a value may be, as far as its type does not say it.
fn limits(schema: &Value) -> String {
    let range = |low: &Value, high: &Value, unit: &str| match (low.as_i64(), high.as_i64()) {
        (Some(low), Some(high)) => format!("{low} to {high}{unit}."),
        (Some(low), None) => format!("{low}{unit} or more."),
        (None, Some(high)) => format!("At most {high}{unit}."),
        (None, None) => String::new(),
    };
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str);
        let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
        return format!("{}.", words.join(", "));
    }
    let number = range(&schema["minimum"], &schema["maximum"], "");
    let length = range(&schema["minLength"], &schema["maxLength"], " characters");
    format!("{number}{length}")
}

fn about(description: &Value, limits: &str) -> Words {
    let text = description.as_str().unwrap_or_default();
    Words::of(format!("{limits} {text}").trim())
}

/// The fields of an object, those of objects in it after it; required ones first.
pub fn fields(document: &Value, schema: &Value, sent: bool) -> Vec<Field> {
    let mut found = Vec::new();
    collect(document, schema, "", sent, 1, &mut found);
    found
}

fn collect(
    document: &Value,
    schema: &Value,
    prefix: &str,
    sent: bool,
    depth: usize,
    found: &mut Vec<Field>,
) {
    let schema = follow(document, schema);
    for (name, required) in names(schema) {
        let shape = Shape::of(document, &schema["properties"][name]);
        let full = format!("{prefix}{name}");
        let kind = shape.kind(document);
        found.push(Field {
            kind: if shape.nullable && !sent {
                format!("{kind} or null")
            } else {
                kind
            },
            name: full.clone(),
            required: required && sent,
            // Of an answer, a range says what its type can hold.
            about: about(
                shape.description,
                &if sent {
                    limits(shape.schema)
                } else {
                    String::new()
                },
            ),
        });
        if depth < DEPTH && shape.item["properties"].is_object() {
            let list = if shape.is_list { "[]" } else { "" };
            let prefix = format!("{full}{list}.");
            collect(document, shape.item, &prefix, sent, depth + 1, found);
        }
    }
}

/// The names of an object's fields: those required in the order in which they were declared, then
/// the others by name, whatever order JSON has here.
pub fn names(schema: &Value) -> Vec<(&str, bool)> {
    let required = schema["required"].as_array();
    let required: Vec<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let all = schema["properties"].as_object();
    let mut others: Vec<&str> = all
        .into_iter()
        .flat_map(|all| all.keys().map(String::as_str))
        .filter(|name| !required.contains(name))
        .collect();
    others.sort_unstable();
    let others = others.into_iter().map(|name| (name, false));
    required
        .iter()
        .map(|name| (*name, true))
        .chain(others)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_in_objects_have_dotted_names() {
        let document = json!({ "components": { "schemas": { "Link": {
            "type": "object", "required": ["url"], "properties": { "url": { "type": "string" } }
        } } } });
        let schema = json!({
            "type": "object", "required": ["name"],
            "properties": {
                "age": { "type": "integer", "minimum": 1, "maximum": 9 },
                "links": { "type": "array", "items": { "$ref": "#/components/schemas/Link" } },
                "name": { "type": ["string", "null"], "description": "As `it` is." },
            }
        });
        let found = fields(&document, &schema, true);
        let told: Vec<(&str, &str, bool)> = found
            .iter()
            .map(|f| (f.name.as_str(), f.kind.as_str(), f.required))
            .collect();
        assert_eq!(
            told,
            [
                ("name", "string", true),
                ("age", "integer", false),
                ("links", "object[]", false),
                ("links[].url", "string", true),
            ]
        );
        assert_eq!(found[1].about, Words::of("1 to 9."));
        assert_eq!(found[0].about.0[1], (true, "it".to_owned()));
    }
}
