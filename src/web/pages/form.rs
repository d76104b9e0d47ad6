//! A form as it stands: what was typed, and what is wrong with it, each message beside its field.
//!
//! A page makes one with the values to begin with; its handler, refused by the domain, makes one
//! with the values that came and the errors, so that nothing typed is lost.

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
