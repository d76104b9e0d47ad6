//! What a parser says of input that has the wrong structure, as a sentence that names the field.
//!
//! To put one more of its sayings into words, add it to [`sentence`]; for one more type, to
//! [`kind`].

/// `path` is where the parser stood, `.` for the whole; `cause` is what it said.
#[must_use]
pub fn sentence(path: &str, cause: &str) -> String {
    let whole = path == "." || path.is_empty();
    let within = |name: &str| {
        if whole {
            name.to_owned()
        } else if path == name || path.ends_with(&format!(".{name}")) {
            path.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let named = |rest: &str| rest.split('`').nth(1).map(str::to_owned);
    if let Some(name) = cause.strip_prefix("missing field ").and_then(named) {
        return format!("{} is required", within(&name));
    }
    if let Some(name) = cause.strip_prefix("duplicate field ").and_then(named) {
        return format!("{} is given more than once", within(&name));
    }
    if let Some(name) = cause.strip_prefix("unknown field ").and_then(named) {
        return format!("{} is not known", within(&name));
    }
    let subject = if whole { "What is sent" } else { path };
    if cause.starts_with("unknown variant ")
        && let Some((_, those)) = cause.split_once(", expected ")
    {
        let those = those.trim_start_matches("one of ").replace('`', "");
        return format!("{subject} must be one of {those}");
    }
    if (cause.starts_with("invalid type") || cause.starts_with("invalid value"))
        && let Some((_, wanted)) = cause.rsplit_once(", expected ")
    {
        return format!("{subject} must be {}", kind(wanted));
    }
    if cause.starts_with("must ") {
        return format!("{subject} {cause}");
    }
    match cause {
        "expected a whole number" | "invalid digit found in string" => {
            format!("{subject} must be a whole number")
        }
        "provided string was not `true` or `false`" => {
            format!("{subject} must be true or false")
        }
        _ => format!("{subject} is not right: {cause}"),
    }
}

/// What the parser calls a type, as people who write JSON call it.
fn kind(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" | "isize" => {
            "a whole number"
        }
        "a string" | "a borrowed string" | "str" => "a string",
        _ if wanted.starts_with("struct ") || wanted.starts_with("internally tagged") => {
            "an object"
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        number: i64,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
        #[expect(dead_code, reason = "only parsed")]
        list: Option<Vec<Inner>>,
        #[expect(dead_code, reason = "only parsed")]
        flag: Option<bool>,
    }

    #[test]
    fn the_field_is_named_and_the_type_in_words() {
        for (text, said) in [
            (r#"{}"#, "name is required"),
            (r#"{"name":{}}"#, "name must be a string"),
            (r#"{"name":null}"#, "name must be a string"),
            (r#"{"name":"a","name":"b"}"#, "name is given more than once"),
            (r#"{"name":"a","list":{}}"#, "list must be a list"),
            (r#"{"name":"a","list":[1]}"#, "list[0] must be an object"),
            (r#"{"name":"a","list":[{}]}"#, "list[0].number is required"),
            (
                r#"{"name":"a","list":[{"number":"1"}]}"#,
                "list[0].number must be a whole number",
            ),
            (
                r#"{"name":"a","list":[{"number":1,"more":1}]}"#,
                "list[0].more is not known",
            ),
            (r#"{"name":"a","flag":"yes"}"#, "flag must be true or false"),
        ] {
            let error = crate::web::extract::from_json::<Outer>(text.as_bytes()).unwrap_err();
            assert_eq!(error.message(), said, "{text}");
        }
    }
}
