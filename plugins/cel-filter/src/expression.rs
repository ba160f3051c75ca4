//! A CEL expression: checked once, evaluated for each event.
//!
//! The native face of this crate. It must not know the contract: [`crate`] hands it values.

use std::sync::Arc;

use cel::{Context, Env, ExecutionError, Program, Value};

use crate::check::{self, Findings};
use crate::{patterns, values};

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
pub(crate) const VARIABLES: [(Variable, &str); 3] = [
    (Variable::Data, "data"),
    (Variable::Event, "event"),
    (Variable::Context, "context"),
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
        let environment = Arc::new(environment());
        let program = environment
            .compile(text)
            .map_err(|errors| check::syntax_problems(text, &errors))?;
        let Findings { uses, problems } = check::names(text, &program);
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

fn environment() -> Env {
    let mut environment = Env::stdlib();
    patterns::add_to(&mut environment);
    environment
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
    fn a_problem_says_what_was_probably_meant() {
        let check = |text: &str, place: &str, hint: &str| {
            let problems = problems(text);
            assert!(
                problems[0].starts_with(place) && problems[0].contains(hint),
                "{text}: {problems:?}"
            );
        };
        check("data.a = 1", "line 1, column 8, at `= 1`", "`==` compares");
        check("true and false", "line 1, column 6, at `and false`", "`&&` is and");
        check("data.a.Startswith(\"x\")", "line 1", "did you mean `startsWith`?");
        check("data.list.exist(x, x == 1)", "line 1", "there is no");
        check("data.list.exists(1)", "line 1", "`exists` takes a name and a condition");
        check(
            "data.a == 1 &&\n  data.b.matches(\"(x\")",
            "line 2, column 18, at `\"(x\")`",
            "not a pattern",
        );
        check("\"shop\"", "line 1, column 1", "this never is");
        check("data", "line 1, column 1", "this never is");
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
            "\"a1\".matches(\"^a[0-9]$\") && matches(\"b\", \"B|b\") && !\"x\".matches(\"y\")",
            "{\"a\": 1}.?a.orValue(2) == 1 && {\"a\": 1}.?b.orValue(2) == 2",
            "!{\"a\": 1}.?b.hasValue()",
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

    #[test]
    fn it_decides_as_the_table_says() {
        let table = include_str!("../../../tests/fixtures/stock-plugins.json");
        let table: serde_json::Value = serde_json::from_str(table).unwrap();
        for case in table["cel"].as_array().unwrap() {
            let text = case["expression"].as_str().unwrap();
            for (data, expected) in table["data"]
                .as_array()
                .unwrap()
                .iter()
                .zip(case["answers"].as_array().unwrap())
            {
                let answer = decide(text, data.as_str().unwrap());
                let word = match &answer {
                    Ok(Decision::True) => "pass",
                    Ok(Decision::False) => "drop",
                    Ok(Decision::Missing(_)) => "missing",
                    Err(_) => "fail",
                };
                assert_eq!(word, expected, "{text} {data}: {answer:?}");
            }
        }
    }

    #[test]
    fn the_examples_of_the_reference_are_accepted() {
        let blocks: Vec<_> = include_str!("../README.md").split("```toml\n").skip(1).collect();
        assert_eq!(blocks.len(), 4);
        for block in blocks {
            let example: toml::Table = toml::from_str(block.split("```").next().unwrap()).unwrap();
            let config = &example["plugin"][0]["config"];
            let text = config["expression"].as_str().unwrap();
            Expression::parse(text).unwrap();
        }
    }
}
