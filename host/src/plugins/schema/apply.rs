//! Applies a sound schema to a configuration, and names all that does not fit.
//!
//! Messages do not quote what the configuration holds: it may be secret.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::super::error::{ConfigProblem, one_line};
use super::shape::count;
use super::values::{assert_itself, is_equal};
use super::{Schema, step};

/// Subschemas that are applied. Alternatives within alternatives may come to any number.
const MAX_STEPS: u32 = 200_000;
/// References within references, without end perhaps.
const MAX_DEPTH: usize = 200;

/// A schema on its way through a configuration.
pub(super) struct Applying<'a> {
    schema: &'a Schema<'a>,
    steps_left: u32,
    depth: usize,
}

/// What one subschema says of one value.
#[derive(Default)]
pub(super) struct Outcome {
    problems: Vec<ConfigProblem>,
    /// Members and items that it looked at, for `unevaluated…`.
    evaluated: HashSet<String>,
}

type Applied<T = Outcome> = Result<T, String>;

impl<'a> Applying<'a> {
    /// What does not fit.
    ///
    /// # Errors
    /// The schema cannot be applied in finite time.
    pub(super) fn to(config: &Value, schema: &'a Schema<'a>) -> Applied<Vec<ConfigProblem>> {
        let mut applying = Self {
            schema,
            steps_left: MAX_STEPS,
            depth: 0,
        };
        Ok(applying.apply(schema.root, config, "")?.problems)
    }

    fn apply(&mut self, schema: &'a Value, value: &Value, pointer: &str) -> Applied {
        let too_much = || "it takes too long to apply: its references or alternatives have no end".to_owned();
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(too_much)?;
        if self.depth == MAX_DEPTH {
            return Err(too_much());
        }
        let mut outcome = Outcome::default();
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(false) => {
                outcome.add(pointer, "must not be there");
                return Ok(outcome);
            }
            _ => return Ok(outcome),
        };
        self.depth += 1;
        assert_itself(keywords, value, pointer, &mut outcome);
        match value {
            Value::String(text) => self.text(keywords, text, pointer, &mut outcome),
            Value::Array(items) => self.items(keywords, items, pointer, &mut outcome)?,
            Value::Object(members) => self.members(keywords, members, pointer, &mut outcome)?,
            _ => {}
        }
        self.in_place(keywords, value, pointer, &mut outcome)?;
        self.unevaluated(keywords, value, pointer, &mut outcome)?;
        self.depth -= 1;
        Ok(outcome)
    }

    fn text(&self, keywords: &Map<String, Value>, text: &str, pointer: &str, outcome: &mut Outcome) {
        let length = text.chars().count() as u64;
        outcome.check_count(keywords, ("minLength", "maxLength"), length, "characters", pointer);
        if let Some(pattern) = keywords.get("pattern").and_then(Value::as_str)
            && !self.matches(pattern, text)
        {
            outcome.add(pointer, &format!("does not match the pattern {pattern:?}"));
        }
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        self.schema
            .patterns
            .get(pattern)
            .is_some_and(|regex| regex.is_match(text))
    }

    fn items(
        &mut self,
        keywords: &'a Map<String, Value>,
        items: &[Value],
        pointer: &str,
        outcome: &mut Outcome,
    ) -> Applied<()> {
        outcome.check_count(keywords, ("minItems", "maxItems"), items.len() as u64, "items", pointer);
        if keywords.get("uniqueItems") == Some(&Value::Bool(true)) {
            for (index, item) in items.iter().enumerate() {
                if items[..index].iter().any(|other| is_equal(item, other)) {
                    outcome.add(&format!("{pointer}/{index}"), "is in the list twice");
                }
            }
        }
        let first = keywords.get("prefixItems").and_then(Value::as_array);
        let first = first.map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(index).or(keywords.get("items")) {
                self.child(schema, item, pointer, &index.to_string(), outcome)?;
            }
        }
        let Some(wanted) = keywords.get("contains") else {
            return Ok(());
        };
        let mut n_found = 0;
        for (index, item) in items.iter().enumerate() {
            if self.apply(wanted, item, pointer)?.problems.is_empty() {
                n_found += 1;
                outcome.evaluated.insert(index.to_string());
            }
        }
        let minimum = keywords.get("minContains").and_then(count).unwrap_or(1);
        let maximum = keywords.get("maxContains").and_then(count).unwrap_or(u64::MAX);
        if n_found < minimum || n_found > maximum {
            outcome.add(
                pointer,
                &format!("has {n_found} items of the kind that `contains` describes, too few or too many"),
            );
        }
        Ok(())
    }

    fn members(
        &mut self,
        keywords: &'a Map<String, Value>,
        members: &Map<String, Value>,
        pointer: &str,
        outcome: &mut Outcome,
    ) -> Applied<()> {
        let n_members = members.len() as u64;
        outcome.check_count(keywords, ("minProperties", "maxProperties"), n_members, "keys", pointer);
        let dependent = keywords.get("dependentRequired").and_then(Value::as_object);
        let dependent = dependent.into_iter().flatten();
        let dependent = dependent
            .filter(|(name, _)| members.contains_key(*name))
            .map(|(_, names)| names);
        for name in keywords
            .get("required")
            .into_iter()
            .chain(dependent)
            .filter_map(Value::as_array)
            .flatten()
        {
            let name = name.as_str().unwrap_or_default();
            if !members.contains_key(name) {
                outcome.add(pointer, &format!("needs `{name}`"));
            }
        }
        let known = keywords.get("properties").and_then(Value::as_object);
        let by_pattern = keywords.get("patternProperties").and_then(Value::as_object);
        for (name, member) in members {
            let mut is_known = false;
            if let Some(schema) = known.and_then(|known| known.get(name)) {
                is_known = true;
                self.child(schema, member, pointer, name, outcome)?;
            }
            for (pattern, schema) in by_pattern.into_iter().flatten() {
                if self.matches(pattern, name) {
                    is_known = true;
                    self.child(schema, member, pointer, name, outcome)?;
                }
            }
            match keywords.get("additionalProperties") {
                Some(Value::Bool(false)) if !is_known => outcome.add(&step(pointer, name), "is unknown"),
                Some(schema) if !is_known => self.child(schema, member, pointer, name, outcome)?,
                _ => {}
            }
            if let Some(schema) = keywords.get("propertyNames") {
                let name_value = Value::from(name.as_str());
                let found = self.apply(schema, &name_value, &step(pointer, name))?;
                outcome
                    .problems
                    .extend(found.problems.into_iter().map(|problem| ConfigProblem {
                        message: format!("its name {}", problem.message),
                        ..problem
                    }));
            }
        }
        Ok(())
    }

    /// One member or item.
    fn child(
        &mut self,
        schema: &'a Value,
        value: &Value,
        pointer: &str,
        key: &str,
        outcome: &mut Outcome,
    ) -> Applied<()> {
        let found = self.apply(schema, value, &step(pointer, key))?;
        outcome.problems.extend(found.problems);
        outcome.evaluated.insert(key.to_owned());
        Ok(())
    }

    /// Subschemas that apply to the same value.
    fn in_place(
        &mut self,
        keywords: &'a Map<String, Value>,
        value: &Value,
        pointer: &str,
        outcome: &mut Outcome,
    ) -> Applied<()> {
        let list = |keyword: &str| keywords.get(keyword).and_then(Value::as_array).into_iter().flatten();
        let reference = keywords.get("$ref").and_then(Value::as_str);
        let target = reference.and_then(|reference| self.schema.references.get(reference).copied());
        let dependent = keywords.get("dependentSchemas").and_then(Value::as_object);
        let dependent = dependent.into_iter().flatten();
        let dependent = dependent
            .filter(|(name, _)| value.get(name.as_str()).is_some())
            .map(|(_, schema)| schema);
        for schema in target.into_iter().chain(list("allOf")).chain(dependent) {
            let found = self.apply(schema, value, pointer)?;
            outcome.take(found);
        }
        for (keyword, is_exclusive) in [("anyOf", false), ("oneOf", true)] {
            let mut tried = Vec::new();
            for schema in list(keyword) {
                tried.push(self.apply(schema, value, pointer)?);
            }
            outcome.take_alternatives(tried, is_exclusive, pointer);
        }
        if let Some(schema) = keywords.get("not")
            && self.apply(schema, value, pointer)?.problems.is_empty()
        {
            outcome.add(pointer, "is what `not` rules out");
        }
        if let Some(condition) = keywords.get("if") {
            let found = self.apply(condition, value, pointer)?;
            let branch = if found.problems.is_empty() {
                outcome.take(found);
                "then"
            } else {
                "else"
            };
            if let Some(schema) = keywords.get(branch) {
                let found = self.apply(schema, value, pointer)?;
                outcome.take(found);
            }
        }
        Ok(())
    }

    /// What no other keyword looked at.
    fn unevaluated(
        &mut self,
        keywords: &'a Map<String, Value>,
        value: &Value,
        pointer: &str,
        outcome: &mut Outcome,
    ) -> Applied<()> {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), member)).collect(),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (index.to_string(), item))
                .collect(),
            _ => return Ok(()),
        };
        let keyword = if value.is_object() {
            "unevaluatedProperties"
        } else {
            "unevaluatedItems"
        };
        let Some(schema) = keywords.get(keyword) else {
            return Ok(());
        };
        for (key, child) in children {
            if !outcome.evaluated.contains(&key) {
                self.child(schema, child, pointer, &key, outcome)?;
            }
        }
        Ok(())
    }
}

impl Outcome {
    pub(super) fn add(&mut self, pointer: &str, message: &str) {
        self.problems.push(ConfigProblem {
            pointer: one_line(pointer),
            message: one_line(message),
        });
    }

    fn take(&mut self, found: Self) {
        self.problems.extend(found.problems);
        self.evaluated.extend(found.evaluated);
    }

    fn take_alternatives(&mut self, tried: Vec<Self>, is_exclusive: bool, pointer: &str) {
        if tried.is_empty() {
            return;
        }
        let n_fitting = tried.iter().filter(|found| found.problems.is_empty()).count();
        if n_fitting == 0 {
            let reasons = tried.iter().filter_map(|found| found.problems.first());
            let reasons: Vec<_> = reasons.map(ToString::to_string).collect();
            self.add(
                pointer,
                &format!("fits none of the alternatives ({})", reasons.join("; or ")),
            );
        } else if is_exclusive && n_fitting > 1 {
            self.add(pointer, &format!("fits {n_fitting} alternatives, and may fit only one"));
        }
        for found in tried.into_iter().filter(|found| found.problems.is_empty()) {
            self.evaluated.extend(found.evaluated);
        }
    }

    fn check_count(
        &mut self,
        keywords: &Map<String, Value>,
        (minimum, maximum): (&str, &str),
        actual: u64,
        what: &str,
        pointer: &str,
    ) {
        let limit = |keyword: &str| keywords.get(keyword).and_then(count);
        if let Some(minimum) = limit(minimum).filter(|&minimum| actual < minimum) {
            self.add(pointer, &format!("has {actual} {what}, and needs at least {minimum}"));
        }
        if let Some(maximum) = limit(maximum).filter(|&maximum| actual > maximum) {
            self.add(pointer, &format!("has {actual} {what}, and may have at most {maximum}"));
        }
    }
}
