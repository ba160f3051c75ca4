//! A CEL expression: checked once, evaluated for each event.
//!
//! The native face of this crate. It must not know the contract: [`crate`] hands it values.

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program, Value};

use crate::values;

/// What an expression can ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The payload.
    Data,
    /// The attributes.
    Event,
    /// The circumstances.
    Context,
}

/// Each with its name.
const VARIABLES: [(Variable, &str); 3] = [
    (Variable::Data, "data"),
    (Variable::Event, "event"),
    (Variable::Context, "context"),
];

/// What the standard library and its macros offer, so that a slip of the pen is found before an event comes. What stands
/// for an operator starts with another character than a letter.
const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "uint",
];

/// An expression that is ready.
pub struct Expression {
    program: Program,
    environment: Arc<Env>,
    uses: Vec<Variable>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Expression")
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

/// What an expression says about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is true.
    True,
    /// It is false.
    False,
    /// The event has not got what it asks for.
    Missing(String),
}

impl Expression {
    /// Takes a text as an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let environment = Arc::new(Env::stdlib());
        let program = environment.compile(text).map_err(|errors| {
            let problem = |error: &cel::ParseError| {
                let (line, column) = error.pos;
                // The parser's own text shows the source in further lines; the place is enough.
                let message = error.msg.lines().next().unwrap_or_default();
                at(
                    text,
                    usize::try_from(line).unwrap_or(1),
                    usize::try_from(column).unwrap_or(1),
                    message,
                )
            };
            errors.errors.iter().map(problem).collect::<Vec<_>>()
        })?;
        let mut names = Names {
            text,
            program: &program,
            bound: Vec::new(),
            uses: Vec::new(),
            problems: Vec::new(),
        };
        names.walk(program.expression());
        let (uses, problems) = (names.uses, names.problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            program,
            environment,
            uses,
        })
    }

    /// Whether the value of a variable makes a difference.
    pub fn uses(&self, variable: Variable) -> bool {
        self.uses.contains(&variable)
    }

    /// Evaluates it. `value_of` is asked for the variables that it uses.
    ///
    /// # Errors
    /// Why it has no value, in words for its author.
    pub fn evaluate(&self, mut value_of: impl FnMut(Variable) -> Result<Value, String>) -> Result<Decision, String> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        for (variable, name) in VARIABLES {
            if self.uses(variable) {
                context.add_variable_from_value(name, value_of(variable)?);
            }
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(true)) => Ok(Decision::True),
            Ok(Value::Bool(false)) => Ok(Decision::False),
            Ok(other) => Err(format!(
                "the expression is to be true or false, its value is of type {}",
                other.type_of()
            )),
            Err(ExecutionError::NoSuchKey(key)) => Ok(Decision::Missing(format!("there is no `{key}`"))),
            Err(error) => Err(values::in_words(&error)),
        }
    }
}

/// Looks for names that nobody gives a value to.
struct Names<'a> {
    text: &'a str,
    program: &'a Program,
    /// Those of macros, e.g. `x` in `list.exists(x, x > 1)`.
    bound: Vec<&'a str>,
    uses: Vec<Variable>,
    problems: Vec<String>,
}

impl<'a> Names<'a> {
    fn walk(&mut self, node: &'a IdedExpr) {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.name(node, name),
            Expr::Call(call) => {
                self.function(node, &call.func_name);
                if let Some(target) = &call.target {
                    self.walk(target);
                }
                for argument in &call.args {
                    self.walk(argument);
                }
            }
            Expr::Comprehension(comprehension) => {
                self.walk(&comprehension.iter_range);
                self.walk(&comprehension.accu_init);
                let n_bound = self.bound.len();
                self.bound.push(&comprehension.iter_var);
                self.bound.extend(comprehension.iter_var2.as_deref());
                self.bound.push(&comprehension.accu_var);
                self.walk(&comprehension.loop_cond);
                self.walk(&comprehension.loop_step);
                self.walk(&comprehension.result);
                self.bound.truncate(n_bound);
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.walk(element);
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    self.entry(&entry.expr);
                }
            }
            Expr::Select(select) => self.walk(&select.operand),
            Expr::Struct(literal) => {
                let name = &literal.type_name;
                self.problem(node, &format!("there is no type `{name}`"));
                for entry in &literal.entries {
                    self.entry(&entry.expr);
                }
            }
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.walk(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.walk(&entry.key);
                self.walk(&entry.value);
            }
        }
    }

    fn name(&mut self, node: &IdedExpr, name: &str) {
        if name.starts_with('@') || self.bound.contains(&name) {
            return;
        }
        match VARIABLES.iter().find(|(_, known)| *known == name) {
            Some((variable, _)) if self.uses.contains(variable) => {}
            Some((variable, _)) => self.uses.push(*variable),
            None => {
                let message =
                    format!("there is no `{name}`; an expression may ask about `data`, `event` and `context`");
                self.problem(node, &message);
            }
        }
    }

    fn function(&mut self, node: &IdedExpr, name: &str) {
        let is_operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !is_operator && !FUNCTIONS.contains(&name) {
            self.problem(node, &format!("there is no function `{name}`"));
        }
    }

    fn problem(&mut self, node: &IdedExpr, message: &str) {
        let offset = self.program.source_info().offset_for(node.id);
        let start = offset.map_or(0, |(start, _)| start as usize);
        let before: String = self.text.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.problems.push(at(self.text, line, column, message));
    }
}

/// A message with its place, and what stands there.
fn at(text: &str, line: usize, column: usize, message: &str) -> String {
    let rest = text
        .lines()
        .nth(line.saturating_sub(1))
        .unwrap_or_default()
        .chars()
        .skip(column.saturating_sub(1));
    let near: String = rest.take(24).collect();
    if near.is_empty() {
        format!("line {line}, column {column} (at its end): {message}")
    } else {
        format!("line {line}, column {column}, at `{near}`: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        Expression::parse(text).unwrap_err()
    }

    fn decide(text: &str, data: &str) -> Result<Decision, String> {
        let value = values::from_json(data).unwrap();
        Expression::parse(text).unwrap().evaluate(|_| Ok(value.clone()))
    }

    #[test]
    fn an_expression_decides_about_the_data() {
        let check = |text: &str, data: &str, expected: Decision| {
            assert_eq!(decide(text, data), Ok(expected), "{text} {data}");
        };
        let shop = r#"{"project":"shop","labels":{"team":"a"},"n":3,"x":1.5,"list":[1,2],"none":null}"#;
        check(
            r#"data.project == "shop" && data.labels.team in ["a","b"]"#,
            shop,
            Decision::True,
        );
        check(r#"data.project == "other""#, shop, Decision::False);
        check("data.n > 2 && data.n == 3 && data.x < 2.0", shop, Decision::True);
        check(
            "data.list.exists(x, x == 2) && size(data.list) == 2",
            shop,
            Decision::True,
        );
        check("data.none == null", shop, Decision::True);
        check("has(data.labels.team) && !has(data.labels.owner)", shop, Decision::True);
        check(r#"data.project.startsWith("sh")"#, shop, Decision::True);
        check(r#"data.project.matches("^s.*p$")"#, shop, Decision::True);
    }

    #[test]
    fn what_is_missing_is_told_apart_from_what_is_wrong() {
        let missing = Ok(Decision::Missing("there is no `team`".to_owned()));
        assert_eq!(decide(r#"data.labels.team == "a""#, r#"{"labels":{}}"#), missing);
        // The other side decides alone.
        let text = r#"data.team == "a" || data.project == "shop""#;
        assert_eq!(decide(text, r#"{"project":"shop"}"#), Ok(Decision::True));
        let wrong = decide("data.project", r#"{"project":"shop"}"#).unwrap_err();
        assert!(wrong.contains("of type string"), "{wrong}");
        decide("data.project > 5", r#"{"project":"shop"}"#).unwrap_err();
    }

    #[test]
    fn every_problem_has_its_place() {
        assert_eq!(
            problems("data.project == \"shop\" &&\n  dta.stage == stage"),
            [
                "line 2, column 3, at `dta.stage == stage`: there is no `dta`; an expression may ask about `data`, `event` and `context`",
                "line 2, column 16, at `stage`: there is no `stage`; an expression may ask about `data`, `event` and `context`",
            ]
        );
        let [unknown] = problems(r#"data.project.startWith("s")"#).try_into().unwrap();
        assert!(unknown.contains("there is no function `startWith`"), "{unknown}");
        let syntax = problems("data.project = \"shop\"");
        assert!(syntax[0].starts_with("line 1, column 14"), "{syntax:?}");
        assert!(!problems("data.a &&").is_empty());
    }

    #[test]
    fn every_function_that_is_known_is_there() {
        for text in [
            "bool(\"true\")",
            "bytes(\"a\") == b\"a\"",
            "\"ab\".contains(\"a\")",
            "double(1) == 1.0",
            "dyn(true)",
            "\"ab\".endsWith(\"b\")",
            "int(\"1\") == 1",
            "string(1) == \"1\"",
            "uint(1) == 1u",
        ] {
            assert_eq!(decide(text, "null"), Ok(Decision::True), "{text}");
        }
    }

    #[test]
    fn only_what_is_used_is_asked_for() {
        let expression = Expression::parse("context.stage == \"dev\"").unwrap();
        assert!(expression.uses(Variable::Context));
        assert!(!expression.uses(Variable::Data) && !expression.uses(Variable::Event));
    }
}
