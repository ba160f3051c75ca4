//! What is added to events. Plain Rust, tested without a component.

/// What `configure` makes of the configuration.
#[derive(Debug, Default)]
pub struct Rule {
    /// Name of the extension.
    pub extension: String,
    /// Its value.
    pub value: String,
}

impl Rule {
    /// Name and value of the extension, if it is not among these.
    pub fn missing_among<'a>(&self, mut extensions: impl Iterator<Item = &'a str>) -> Option<(String, String)> {
        let is_there = extensions.any(|name| name == self.extension);
        (!is_there).then(|| (self.extension.clone(), self.value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn only_what_is_missing_is_added() {
        let rule = Rule {
            extension: "team".to_owned(),
            value: "checkout".to_owned(),
        };
        let added = Some(("team".to_owned(), "checkout".to_owned()));
        assert_eq!(rule.missing_among(["teams"].into_iter()), added);
        assert_eq!(rule.missing_among(["tier", "team"].into_iter()), None);
    }
}
