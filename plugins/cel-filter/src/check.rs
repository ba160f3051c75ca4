//! What can be known to be wrong with an expression before there is an event.
//!
//! Called by [`crate::expression`]. Each problem is one line with its place, because that is what a log shows.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{ParseErrors, Program};

use crate::expression::{VARIABLES, Variable};
use crate::patterns;

/// What the standard library and its macros offer, so that a slip of the pen is found before an event comes. What stands
/// for an operator starts with another character than a letter.
pub(crate) const FUNCTIONS: [&str; 15] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "has",
    "hasValue",
    "int",
    "matches",
    "orValue",
    "size",
    "startsWith",
    "string",
    "uint",
];

/// They are gone from the parsed expression, unless they were given other arguments than they take.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];

/// What people write that is not CEL, and what is.
const OTHER_LANGUAGES: [(&str, &str); 7] = [
    ("and ", "`&&` is and"),
    ("or ", "`||` is or"),
    ("not ", "`!` is not"),
    ("& ", "`&&` is and"),
    ("| ", "`||` is or"),
    ("= ", "`==` compares"),
    ("=~ ", "`matches` tries a pattern: `data.name.matches(\"^a\")`"),
];

/// What an expression is made of.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) uses: Vec<Variable>,
    pub(crate) problems: Vec<String>,
}

/// Looks through everything that has a name.
pub(crate) fn names(text: &str, program: &Program) -> Findings {
    let mut names = Names {
        text,
        program,
        bound: Vec::new(),
        uses: Vec::new(),
        problems: Vec::new(),
    };
    names.walk(program.expression());
    names.result(program.expression());
    Findings {
        uses: names.uses,
        problems: names.problems,
    }
}

/// The parser's complaints in one line each: its own text shows the source in further lines, and the place is enough.
pub(crate) fn syntax_problems(text: &str, errors: &ParseErrors) -> Vec<String> {
    let problem = |error: &cel::ParseError| {
        let line = usize::try_from(error.pos.0).unwrap_or(1);
        let column = usize::try_from(error.pos.1).unwrap_or(1);
        let message = error.msg.lines().next().unwrap_or_default();
        let hint = hint(&rest(text, line, column)).map_or_else(String::new, |hint| format!(" ({hint})"));
        at(text, line, column, &format!("{message}{hint}"))
    };
    errors.errors.iter().map(problem).collect()
}

fn hint(rest: &str) -> Option<&'static str> {
    let (_, hint) = OTHER_LANGUAGES.iter().find(|(start, _)| rest.starts_with(start))?;
    Some(hint)
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
                if call.func_name == patterns::MATCHES
                    && let Some(last) = call.args.last()
                {
                    self.pattern(last);
                }
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

    /// A pattern that is written down is as fixed as the expression, so it is compiled with it.
    fn pattern(&mut self, node: &IdedExpr) {
        if let Expr::Literal(LiteralValue::String(pattern)) = &node.expr
            && let Err(problem) = patterns::compile(pattern.inner())
        {
            self.problem(node, &problem);
        }
    }

    fn function(&mut self, node: &IdedExpr, name: &str) {
        let is_operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
        if is_operator || FUNCTIONS.contains(&name) {
            return;
        }
        let message = if MACROS.contains(&name) {
            format!("`{name}` takes a name and a condition, as in `data.list.{name}(x, x == 1)`")
        } else {
            let meant = nearest(name, FUNCTIONS.into_iter().chain(MACROS));
            let meant = meant.map_or_else(String::new, |other| format!("; did you mean `{other}`?"));
            format!("there is no function `{name}`{meant}")
        };
        self.problem(node, &message);
    }

    /// Most values are known only when an event comes; some never are true or false.
    fn result(&mut self, node: &IdedExpr) {
        let is_neither = match &node.expr {
            Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
            Expr::List(_) | Expr::Map(_) => true,
            Expr::Ident(name) => VARIABLES.iter().any(|(_, known)| known == name),
            _ => false,
        };
        if is_neither {
            self.problem(node, "the expression has to be true or false, and this never is");
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

/// The name that was probably meant: one with at most two letters more, less or different.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = candidates.map(|candidate| (distance(word, candidate), candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= 2 && distance < word.chars().count()).then_some(candidate)
}

/// How many letters have to be put in, left out or replaced (Levenshtein). Letter case is no difference.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (n_before, letter) in from.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], n_before + 1);
        for (i, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[i + 1];
            row[i + 1] = replaced.min(row[i] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What stands at a place, up to the end of its line.
fn rest(text: &str, line: usize, column: usize) -> String {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    line.chars().skip(column.saturating_sub(1)).collect()
}

/// A message with its place, and what stands there.
fn at(text: &str, line: usize, column: usize, message: &str) -> String {
    let near: String = rest(text, line, column).chars().take(24).collect();
    if near.is_empty() {
        format!("line {line}, column {column} (at its end): {message}")
    } else {
        format!("line {line}, column {column}, at `{near}`: {message}")
    }
}
