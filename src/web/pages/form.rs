//! A form as it stands: what was typed, and what is wrong with it, each message beside its field.
//!
//! A page makes one with the values to begin with; its handler, refused by the domain, makes one
//! with the values that came and the errors, so that nothing typed is lost.

use crate::error::{Error, Result};

/// The fields of a form as they came, in order; a name may come more than once.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(transparent)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// What came first under a name; nothing if nothing came.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }

    /// The same without the space around it, and none if nothing is left.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty())
    }

    /// Everything under a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// A text of several lines, each ended as Unix does: browsers send CR LF, which a script's
    /// first line does not survive.
    #[must_use]
    pub fn lines(&self, name: &str) -> String {
        self.text(name).replace("\r\n", "\n")
    }

    /// A whole number; none if nothing came.
    ///
    /// # Errors
    /// A validation error that names the field.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.optional(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Error::field(name, format!("{name} must be a whole number"))),
        }
    }
}

/// The values and messages of one form, by the names of its fields.
#[derive(Debug, Clone, Default)]
pub struct Form {
    values: Vec<(&'static str, String)>,
    errors: Vec<(String, String)>,
    /// What is wrong with the whole, not with one field.
    pub problem: Option<String>,
}

impl Form {
    /// A form with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With `value` in the field `name`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    /// With what came in `fields` under each of `names`. Passwords are not named: they do not go
    /// back to the browser.
    #[must_use]
    pub fn with_all(mut self, fields: &Fields, names: &[&'static str]) -> Self {
        for name in names {
            for value in fields.all(name) {
                self.values.push((name, value.to_owned()));
            }
        }
        self
    }

    /// With what is wrong, each message beside its field; `here` names the fields that the form
    /// has, and what is wrong with none of them stands above it.
    ///
    /// # Errors
    /// Gives `error` back when a form cannot tell of it: it wants a page of its own.
    pub fn refused(mut self, error: &Error, here: &[&str]) -> Result<Self> {
        match error {
            Error::Validation(wrong) => {
                let mut elsewhere = Vec::new();
                for field in wrong {
                    if here.contains(&field.field.as_str()) {
                        let message = plain_message(&field.field, &field.message);
                        self.refuse(field.field.clone(), message);
                    } else {
                        elsewhere.push(field.message.clone());
                    }
                }
                if !elsewhere.is_empty() {
                    self.problem = Some(elsewhere.join("; "));
                }
                Ok(self)
            }
            Error::WrongPassword
            | Error::Conflict(_)
            | Error::QuotaExceeded(_)
            | Error::BadRequest(_)
            | Error::RateLimited { .. } => {
                self.problem = Some(error.message());
                Ok(self)
            }
            other => Err(other.clone()),
        }
    }

    /// With `message` beside the field `name`.
    pub fn refuse(&mut self, name: impl Into<String>, message: impl Into<String>) {
        self.errors.push((name.into(), message.into()));
    }

    /// What stands in a field; nothing if nothing.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.values
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, value)| value)
    }

    /// Whether a choice or a check box has this value.
    #[must_use]
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.values.iter().any(|(n, v)| *n == name && v == value)
    }

    /// What is wrong with a field.
    #[must_use]
    pub fn error(&self, name: &str) -> Option<&str> {
        self.errors
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, message)| message.as_str())
    }

    /// Whether this is the first wrong field, which gets the focus.
    #[must_use]
    pub fn is_first_wrong(&self, name: &str) -> bool {
        self.errors.first().is_some_and(|(n, _)| n == name)
    }

    /// Whether anything was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.problem.is_some() || !self.errors.is_empty()
    }
}

/// The API's sentence without the field's name before it, which the label says already:
/// `disk_gb must be …` becomes `Must be …`.
fn plain_message(field: &str, message: &str) -> String {
    let rest = message.strip_prefix(field).map_or(message, str::trim_start);
    let mut letters = rest.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FieldError;

    #[test]
    fn each_message_stands_beside_its_field() {
        let wrong = |field: &str, message: &str| FieldError {
            field: field.to_owned(),
            message: message.to_owned(),
        };
        let error = Error::Validation(vec![
            wrong("disk_gb", "disk_gb must be between 18 and 32"),
            wrong("weather", "weather must be fine"),
        ]);
        let form = Form::new()
            .with("disk_gb", "3")
            .refused(&error, &["hostname", "disk_gb"])
            .unwrap();
        assert_eq!(form.error("disk_gb"), Some("Must be between 18 and 32"));
        assert!(form.is_first_wrong("disk_gb") && !form.is_first_wrong("hostname"));
        assert_eq!(form.problem.as_deref(), Some("weather must be fine"));
        assert_eq!(form.value("disk_gb"), "3");
    }

    #[test]
    fn what_a_form_cannot_tell_goes_on() {
        assert!(Form::new().refused(&Error::Unauthorized, &[]).is_err());
    }

    #[test]
    fn fields_may_come_more_than_once() {
        let fields: Fields =
            serde_urlencoded::from_str("scopes=a&scopes=b&n=+4+&s=a%0D%0Ab").unwrap();
        assert_eq!(fields.all("scopes").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields.number("n").unwrap(), Some(4));
        assert_eq!(fields.number("none").unwrap(), None);
        assert!(fields.number("s").is_err());
        assert_eq!(fields.lines("s"), "a\nb");
    }
}
