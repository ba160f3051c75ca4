//! A jq program: compiled once, run for each event.
//!
//! The native face of this crate. It must not know the contract: [`crate`] hands it JSON and gets JSON.

use std::fmt::Write as _;

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Ctx, Native, Vars, compile, data};
use jaq_json::{Val, read};

/// More outputs than any host takes; a program may go on for ever.
const MAX_OUTPUTS: usize = 1000;

/// Variables that every program has, before those of the configuration.
pub const VARIABLES: [&str; 2] = ["$event", "$context"];

type Filter = compile::Filter<Native<data::JustLut<Val>>>;

/// A program that is ready.
pub struct Program {
    filter: Filter,
    /// Values of the configuration, in the order of their names.
    arguments: Vec<Val>,
    uses: [bool; VARIABLES.len()],
}

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Program")
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

/// What a program made of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outputs {
    /// The input, as it was.
    Same,
    /// JSON documents, in their order.
    Values(Vec<String>),
}

impl Program {
    /// Takes a text as a program, with these arguments as variables.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn compile(text: &str, arguments: &serde_json::Map<String, serde_json::Value>) -> Result<Self, Vec<String>> {
        let arena = Arena::default();
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let file = File { code: text, path: () };
        let modules = Loader::new(definitions)
            .load(&arena, file)
            .map_err(|errors| load_problems(text, errors))?;
        let names: Vec<String> = arguments.keys().map(|name| format!("${name}")).collect();
        let functions = jaq_core::funs::<data::JustLut<Val>>()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs());
        let filter = jaq_core::Compiler::default()
            .with_funs(functions)
            .with_global_vars(VARIABLES.into_iter().chain(names.iter().map(String::as_str)))
            .compile(modules)
            .map_err(|errors| compile_problems(text, errors))?;
        let arguments = arguments.values().map(|value| value_of(&value.to_string()));
        let arguments = arguments.collect::<Result<_, _>>().map_err(|error| vec![error])?;
        Ok(Self {
            filter,
            arguments,
            // A name in a comment or a string only costs a copy.
            uses: VARIABLES.map(|name| text.contains(name)),
        })
    }

    /// Whether the program uses the variable with this number in [`VARIABLES`].
    pub fn uses(&self, variable: usize) -> bool {
        self.uses[variable]
    }

    /// Runs it on a JSON document, with these documents as [`VARIABLES`].
    ///
    /// # Errors
    /// Why it has no outputs, in words for its author.
    pub fn run(&self, input: &str, variables: [&str; VARIABLES.len()]) -> Result<Outputs, String> {
        let input = value_of(input)?;
        let variables = variables.into_iter().map(value_of).collect::<Result<Vec<_>, _>>()?;
        let variables = variables.into_iter().chain(self.arguments.iter().cloned());
        let context = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new(variables));
        let mut outputs = Vec::new();
        let mut is_same = false;
        for output in self.filter.id.run((context, input.clone())) {
            let output = match output {
                Ok(output) => output,
                Err(raised) => return Err(in_words(raised)),
            };
            if outputs.len() == MAX_OUTPUTS {
                return Err(format!("the program has more than {MAX_OUTPUTS} outputs"));
            }
            is_same = outputs.is_empty() && output == input;
            let json = output.to_string();
            // Values of jq are more than JSON has: bytes, and numbers like `nan`.
            if serde_json::from_str::<serde::de::IgnoredAny>(&json).is_err() {
                return Err(format!("an output is not JSON: {}", shortened(&json)));
            }
            outputs.push(json);
        }
        if is_same && outputs.len() == 1 {
            return Ok(Outputs::Same);
        }
        Ok(Outputs::Values(outputs))
    }
}

fn value_of(json: &str) -> Result<Val, String> {
    read::parse_single(json.as_bytes()).map_err(|error| format!("not JSON: {error}"))
}

fn in_words(raised: jaq_core::Exn<Val>) -> String {
    match raised.get_err() {
        Ok(error) => match error.into_val() {
            Val::TStr(text) => shortened(&String::from_utf8_lossy(&text)),
            other => shortened(&other.to_string()),
        },
        Err(_) => "the program ended itself (`halt`)".to_owned(),
    }
}

/// Messages quote values, which may be large.
fn shortened(text: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    let mut short: String = text.chars().take(MAX_CHARACTERS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn load_problems(text: &str, errors: load::Errors<&str, ()>) -> Vec<String> {
    let mut problems = Vec::new();
    for (_, error) in errors {
        match error {
            load::Error::Io(files) => {
                let files = files.into_iter();
                problems
                    .extend(files.map(|(place, _)| at(text, place, "a plugin has no files: modules cannot be loaded")));
            }
            load::Error::Lex(errors) => {
                let errors = errors.into_iter();
                problems.extend(
                    errors.map(|(expected, found)| at(text, found, &format!("expected {}", expected.as_str()))),
                );
            }
            load::Error::Parse(errors) => {
                let errors = errors.into_iter();
                problems.extend(
                    errors.map(|(expected, found)| at(text, found, &format!("expected {}", expected.as_str()))),
                );
            }
        }
    }
    problems
}

fn compile_problems(text: &str, errors: compile::Errors<&str, ()>) -> Vec<String> {
    let mut problems = Vec::new();
    for (_, errors) in errors {
        for (name, undefined) in errors {
            let mut message = format!("there is no {} `{name}`", undefined.as_str());
            if let compile::Undefined::Filter(n_arguments) = undefined
                && n_arguments > 0
            {
                write!(message, " with {n_arguments} arguments").expect("writing to a String cannot fail");
            }
            problems.push(at(text, name, &message));
        }
    }
    problems
}

/// A message with its place, and what stands there. `part` is a slice of `text`.
fn at(text: &str, part: &str, message: &str) -> String {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize);
    let Some(before) = start.and_then(|start| text.get(..start)) else {
        return message.to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let rest = &text[before.len()..];
    let near: String = rest.lines().next().unwrap_or_default().chars().take(24).collect();
    if near.is_empty() {
        format!("line {line}, column {column} (at its end): {message}")
    } else {
        format!("line {line}, column {column}, at `{near}`: {message}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compiled(text: &str, arguments: &serde_json::Value) -> Program {
        Program::compile(text, arguments.as_object().unwrap()).unwrap()
    }

    fn run(text: &str, input: &str) -> Result<Outputs, String> {
        compiled(text, &json!({})).run(input, ["null", "null"])
    }

    fn values(values: &[&str]) -> Outputs {
        Outputs::Values(values.iter().map(|&value| value.to_owned()).collect())
    }

    fn problems(text: &str) -> Vec<String> {
        Program::compile(text, &serde_json::Map::new()).unwrap_err()
    }

    #[test]
    fn outputs_take_the_place_of_the_input() {
        let check = |text: &str, input: &str, expected: &[&str]| {
            assert_eq!(run(text, input), Ok(values(expected)), "{text} {input}");
        };
        check("del(.secret)", r#"{"a":1,"secret":"x"}"#, &[r#"{"a":1}"#]);
        check(
            ".list[] | {item: .}",
            r#"{"list":[1,2]}"#,
            &[r#"{"item":1}"#, r#"{"item":2}"#],
        );
        check("empty", "{}", &[]);
        check(
            r".name |= ascii_upcase | .n += 1",
            r#"{"name":"x","n":1}"#,
            &[r#"{"name":"X","n":2}"#],
        );
        check(r#".id |= test("^[0-9]+$")"#, r#"{"id":"17"}"#, &[r#"{"id":true}"#]);
        check(
            "walk(if type == \"string\" then \"***\" else . end)",
            r#"["a",1]"#,
            &[r#"["***",1]"#],
        );
    }

    #[test]
    fn what_is_not_touched_stays_as_it_was() {
        let input = r#"{"z":12345678901234567890,"a":1.0,"m":"é","x":0.1}"#;
        assert_eq!(
            run(".new = true", input),
            Ok(values(&[&input.replace('}', r#","new":true}"#)]))
        );
        assert_eq!(run(".", input), Ok(Outputs::Same));
        assert_eq!(run("if .a == 2 then .b = 1 else . end", input), Ok(Outputs::Same));
        assert_eq!(run("., .", "1"), Ok(values(&["1", "1"])));
    }

    #[test]
    fn variables_are_the_event_its_circumstances_and_the_arguments() {
        let program = compiled(
            ".owner = $owners[.service] | .type = $event.type | .stage = $context.stage | .n = $n",
            &json!({"owners": {"carts": "team-a"}, "n": 3}),
        );
        assert!(program.uses(0) && program.uses(1));
        let outputs = program.run(r#"{"service":"carts"}"#, [r#"{"type":"t"}"#, r#"{"stage":"dev"}"#]);
        let expected = r#"{"service":"carts","owner":"team-a","type":"t","stage":"dev","n":3}"#;
        assert_eq!(outputs, Ok(values(&[expected])));
    }

    #[test]
    fn every_problem_has_its_place() {
        assert_eq!(
            problems(".a | foo(1) | $nope"),
            [
                "line 1, column 6, at `foo(1) | $nope`: there is no filter `foo` with 1 arguments",
                "line 1, column 15, at `$nope`: there is no variable `$nope`",
            ]
        );
        let check = |text: &str, start: &str| {
            let problems = problems(text);
            assert!(problems[0].starts_with(start), "{text}: {problems:?}");
        };
        check(".a |\n  if .b then 1", "line 2, column 15 (at its end)");
        check(".a | )", "line 1, column 6, at `)`");
        check("{a: [1}", "line 1, column");
        check("import \"x\" as x; .", "line 1, column");
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let failure = |text: &str| run(text, r#"{"a":"x"}"#).unwrap_err();
        assert!(failure(".a + 1").contains("cannot calculate"), "{}", failure(".a + 1"));
        assert_eq!(failure(r#"error("no owner")"#), "no owner");
        assert!(failure("halt").contains("`halt`"));
        assert!(failure("nan").contains("not JSON"), "{}", failure("nan"));
        assert!(failure("repeat(1)").contains("more than 1000 outputs"));
    }

    #[test]
    fn it_makes_of_its_input_what_the_table_says() {
        let table = include_str!("../../../tests/fixtures/stock-plugins.json");
        let table: serde_json::Value = serde_json::from_str(table).unwrap();
        for case in table["jq"].as_array().unwrap() {
            let text = case["program"].as_str().unwrap();
            for (data, expected) in table["data"]
                .as_array()
                .unwrap()
                .iter()
                .zip(case["answers"].as_array().unwrap())
            {
                let answer = match run(text, data.as_str().unwrap()) {
                    Ok(Outputs::Same) => json!("same"),
                    Ok(Outputs::Values(values)) => json!(values),
                    Err(_) => json!("fail"),
                };
                assert_eq!(&answer, expected, "{text} {data}");
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
            let arguments = config
                .get("arguments")
                .map_or_else(|| json!({}), |arguments| json!(arguments));
            compiled(config["program"].as_str().unwrap(), &arguments);
        }
    }
}
