//! The built-in functions: one table for each noun, with name, arity, code, documentation and example. The examples are run
//! as tests, and [`reference()`] makes the page of them.

/// What functions take and give: typed access to arguments, and bounds.
mod argument;
mod bits;
mod collection;
mod compression;
mod context;
mod convert;
mod date;
mod digest;
mod encoding;
mod expression;
mod jq;
mod jq_program;
mod kind;
mod map;
mod number;
mod pattern;
mod random;
mod split;
mod sprintf;
mod state;
mod string;
mod time;
mod trigonometry;

use std::ops::RangeInclusive;

use hookline_schemas::Value;

pub use state::{KvBackend, forget_client, install_kv_backend};

use crate::context::Context;
use crate::error::EvalError;

/// A built-in function.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    /// How many arguments it takes.
    pub arity: RangeInclusive<usize>,
    pub(crate) code: Code,
    /// Its value depends on its arguments only.
    pub pure: bool,
    /// One line.
    pub doc: &'static str,
    /// An expression, and its value as JSON.
    pub example: (&'static str, &'static str),
}

/// What a function does. It is called with so many arguments as the arity allows.
#[derive(Debug)]
pub(crate) enum Code {
    /// It sees its arguments.
    Plain(Plain),
    /// It sees the event, too.
    Event(OfEvent),
}

type Plain = fn(&[Value]) -> Result<Value, EvalError>;
type OfEvent = fn(&Context<'_>, &[Value]) -> Result<Value, EvalError>;

/// Functions about the same thing.
struct Group {
    title: &'static str,
    functions: &'static [Function],
}

const GROUPS: &[Group] = &[
    Group { title: "Texts", functions: string::TABLE },
    Group { title: "Parts of texts", functions: split::TABLE },
    Group { title: "Replacing and regular expressions", functions: pattern::TABLE },
    Group { title: "Formatted texts", functions: sprintf::TABLE },
    Group { title: "Types", functions: kind::TABLE },
    Group { title: "Conversion", functions: convert::TABLE },
    Group { title: "Encodings", functions: encoding::TABLE },
    Group { title: "Numbers", functions: number::TABLE },
    Group { title: "Trigonometry", functions: trigonometry::TABLE },
    Group { title: "Bits", functions: bits::TABLE },
    Group { title: "Arrays", functions: collection::TABLE },
    Group { title: "Maps", functions: map::TABLE },
    Group { title: "jq", functions: jq::TABLE },
    Group { title: "Hashes", functions: digest::TABLE },
    Group { title: "Compression", functions: compression::TABLE },
    Group { title: "Time", functions: time::TABLE },
    Group { title: "Dates by a format", functions: date::TABLE },
    Group { title: "The event", functions: context::TABLE },
    Group { title: "State", functions: state::TABLE },
    Group { title: "Random values", functions: random::TABLE },
    Group { title: "Schemas", functions: crate::schema::function::TABLE },
    Group { title: "Sparkplug B", functions: crate::schema::sparkplug::TABLE },
    Group { title: "Comparisons and choices", functions: expression::TABLE },
];

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Function {
    /// Its value. The evaluator puts the function's name before an error.
    pub(crate) fn call(&self, context: &Context<'_>, arguments: &[Value]) -> Result<Value, EvalError> {
        match self.code {
            Code::Plain(code) => code(arguments),
            Code::Event(code) => code(context, arguments),
        }
    }
}

type Example = (&'static str, &'static str);

const fn pure(name: &'static str, arity: RangeInclusive<usize>, code: Plain, doc: &'static str, example: Example) -> Function {
    Function { name, arity, code: Code::Plain(code), pure: true, doc, example }
}

/// A function whose value may differ from call to call.
const fn varying(name: &'static str, arity: RangeInclusive<usize>, code: Plain, doc: &'static str, example: Example) -> Function {
    Function { name, arity, code: Code::Plain(code), pure: false, doc, example }
}

const fn of_event(name: &'static str, arity: RangeInclusive<usize>, code: OfEvent, doc: &'static str, example: Example) -> Function {
    Function { name, arity, code: Code::Event(code), pure: false, doc, example }
}

/// The function of that name, in lower case. Looked up when a statement is compiled, never when it runs.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// All functions, group by group.
pub fn all() -> impl Iterator<Item = &'static Function> {
    GROUPS.iter().flat_map(|group| group.functions)
}

/// The reference of all functions in Markdown: a table for each group.
pub fn reference() -> String {
    let mut page = String::new();
    for group in GROUPS {
        page.push_str(&format!("## {}\n\n| function | arguments | meaning | example |\n|---|---|---|---|\n", group.title));
        for Function { name, arity, doc, example: (expression, value), .. } in group.functions {
            let arguments = arguments(arity);
            let (expression, value) = (escaped(expression), escaped(value));
            page.push_str(&format!("| `{name}` | {arguments} | {doc} | `{expression}` = `{value}` |\n"));
        }
        page.push('\n');
    }
    page
}

fn arguments(arity: &RangeInclusive<usize>) -> String {
    match (*arity.start(), *arity.end()) {
        (least, most) if least == most => least.to_string(),
        (least, usize::MAX) => format!("{least} or more"),
        (least, most) => format!("{least} to {most}"),
    }
}

/// What may stand in a cell of a table.
fn escaped(code: &str) -> String {
    code.replace('|', "\\|")
}

#[cfg(test)]
mod tests;
