//! Which events pass. Plain Rust, tested without a component.

/// What `configure` makes of the configuration.
#[derive(Debug, Default)]
pub struct Rule {
    /// Services whose events pass.
    pub services: Vec<String>,
}

impl Rule {
    /// Whether events of this service pass; none where the data cannot be decoded.
    pub fn is_wanted(&self, service: Option<&str>) -> bool {
        service.is_some_and(|service| self.services.iter().any(|wanted| wanted == service))
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn only_events_of_wanted_services_pass() {
        let rule = Rule {
            services: vec!["carts".to_owned(), "orders".to_owned()],
        };
        assert!(rule.is_wanted(Some("orders")));
        assert!(!rule.is_wanted(Some("Orders")));
        assert!(!rule.is_wanted(Some("")));
        assert!(!rule.is_wanted(None));
    }
}
