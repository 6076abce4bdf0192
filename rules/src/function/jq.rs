//! jq programs. Each call runs in a thread of its own with a large stack, and ends at its deadline, after too many steps, or when
//! it calls itself too deeply. Programs cannot end the process, and see neither files nor the environment.

use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use hookline_schemas::{Map, Value};
use jaq_core::data::{DataT, HasLut};
use jaq_core::{Ctx, Filter, Lut, Vars};
use jaq_json::{Num, Val};
use parking_lot::Mutex;

use super::argument::{BYTES_MAX, ELEMENTS_MAX, count, text, text_of, within};
use super::{Function, jq_program as program, varying};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[varying(
    "jq",
    2..=3,
    jq,
    "The results of a jq program on a JSON text or a value, as an array; with a deadline in milliseconds (10000).",
    (r#"jq('.a[] | . + 1', '{"a":[1,2]}')"#, "[2,3]"),
)];

const DEADLINE_MS: usize = 10_000;
/// The longest deadline that may be given: the worker waits so long.
const DEADLINE_MS_MAX: usize = 60_000;
/// What a program may do; it bounds what it can pile up, too.
const STEPS_MAX: u32 = 2_000_000;
/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u32 = 256;
/// Only what is used of it takes memory. It also has to do for dropping a value as deep as a program can make one.
const STACK_BYTES: usize = 256 * 1024 * 1024;
/// How much of it calls may use.
const CALLS_BYTES_MAX: usize = STACK_BYTES / 4;
/// How deep results may nest, as JSON texts may.
const DEPTH_MAX: usize = 128;
/// Compiled programs that are kept; beyond it the memory starts afresh.
const KEPT_MAX: usize = 64;

type Kept = HashMap<Box<str>, Arc<Filter<Bounded>>>;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// The data of programs: plain values, and a [`Run`] that counts steps.
pub(super) struct Bounded;

impl DataT for Bounded {
    type V<'a> = Val;
    type Data<'a> = &'a Run<'a>;
}

/// One run of a program.
pub(super) struct Run<'a> {
    lut: &'a Lut<Bounded>,
    deadline: Instant,
    steps: Cell<u32>,
    /// Where the stack was when it began.
    stack: usize,
}

/// Why a run was ended from within; it travels as a panic to the end of the run's thread.
struct Ended(&'static str);

impl<'a> HasLut<'a, Bounded> for &'a Run<'a> {
    /// The interpreter asks for this at every step, which makes it the place to end a program.
    fn lut(&self) -> &'a Lut<Bounded> {
        self.step();
        self.lut
    }
}

impl Run<'_> {
    fn step(&self) {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > STEPS_MAX {
            end("the program takes too many steps");
        }
        if steps.is_multiple_of(STEPS_PER_LOOK) && Instant::now() >= self.deadline {
            end("the program did not end before its deadline");
        }
        if self.stack.abs_diff(stack_place()) > CALLS_BYTES_MAX {
            end("the program calls itself too deeply");
        }
    }
}

/// Unwinds the thread without a word: nothing is wrong with the broker.
fn end(reason: &'static str) -> ! {
    resume_unwind(Box::new(Ended(reason)))
}

/// About where the stack is now.
fn stack_place() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here).addr()
}

fn jq(args: &[Value]) -> Result<Value, EvalError> {
    let program = text(&args[0])?;
    let input = match &args[1] {
        document @ (Value::Text(_) | Value::Bytes(_)) => text(document)?.to_owned(),
        value => value.to_json().to_string(),
    };
    within(input.len())?;
    let deadline = args.get(2).map_or(Ok(DEADLINE_MS), count)?.min(DEADLINE_MS_MAX);
    let deadline = Instant::now() + Duration::from_millis(deadline as u64);
    let result = thread::scope(|scope| {
        let run = thread::Builder::new().name("jq".to_owned()).stack_size(STACK_BYTES);
        match run.spawn_scoped(scope, || results(program, &input, deadline)) {
            Ok(run) => run.join().unwrap_or_else(|panic| Err(reason(&*panic))),
            Err(error) => Err(format!("cannot start a thread for the program: {error}")),
        }
    });
    result.map_err(EvalError::new)
}

fn reason(panic: &(dyn Any + Send)) -> String {
    panic.downcast_ref::<Ended>().map_or("the program failed within the jq library", |ended| ended.0).to_owned()
}

fn results(program: &str, input: &str, deadline: Instant) -> Result<Value, String> {
    let filter = compiled(program)?;
    program::check_document(input.as_bytes())?;
    let input = jaq_json::read::parse_single(input.as_bytes()).map_err(|error| format!("the input is not JSON: {error}"))?;
    let run = Run { lut: &filter.lut, deadline, steps: Cell::new(0), stack: stack_place() };
    let context = Ctx::<Bounded>::new(&run, Vars::new([]));
    let mut budget = Budget { elements: ELEMENTS_MAX, bytes: BYTES_MAX };
    let mut results = Vec::new();
    for output in filter.id.run((context, input)) {
        match output {
            Ok(output) => results.push(budget.value(&output, DEPTH_MAX)?),
            // What is no error is `halt`, which has nothing to end here.
            Err(exception) => return Err(exception.get_err().map_or_else(|_| "halt is not allowed".to_owned(), |error| error.to_string())),
        }
    }
    Ok(Value::Array(results))
}

fn compiled(program: &str) -> Result<Arc<Filter<Bounded>>, String> {
    if let Some(filter) = KEPT.lock().get(program) {
        return Ok(Arc::clone(filter));
    }
    let filter = Arc::new(program::compile(program)?);
    let mut kept = KEPT.lock();
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(program.into(), Arc::clone(&filter));
    Ok(filter)
}

/// What results may still take.
struct Budget {
    elements: usize,
    bytes: usize,
}

impl Budget {
    fn value(&mut self, value: &Val, depth: usize) -> Result<Value, String> {
        let depth = depth.checked_sub(1).ok_or("the results nest too deeply")?;
        self.elements = self.elements.checked_sub(1).ok_or("there are too many results")?;
        Ok(match value {
            Val::Null => Value::Null,
            Val::Bool(b) => Value::Bool(*b),
            Val::Num(number) => self::number(number),
            Val::TStr(text) | Val::BStr(text) => Value::Text(self.text(text)?.into()),
            Val::Arr(items) => Value::Array(items.iter().map(|item| self.value(item, depth)).collect::<Result<_, _>>()?),
            Val::Obj(entries) => {
                let mut map = Map::new();
                for (key, value) in entries.iter() {
                    let value = self.value(value, depth)?;
                    match key {
                        // Keys of an object differ; only those that were no texts may clash as texts.
                        Val::TStr(key) => map.push_new(&self.text(key)?, value),
                        key => map.insert(&text_of(&self.value(key, depth)?), value),
                    }
                }
                Value::Map(map)
            }
        })
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String, String> {
        self.bytes = self.bytes.checked_sub(bytes.len()).ok_or("the results are too large")?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn number(number: &Num) -> Value {
    match number {
        Num::Int(int) => Value::Int(*int as i64),
        Num::Float(float) => finite(*float),
        digits => {
            let digits = digits.to_string();
            digits.parse().map_or_else(|_| digits.parse().map_or(Value::Null, finite), Value::Int)
        }
    }
}

/// A float, or null where JSON has no word for it.
fn finite(float: f64) -> Value {
    if float.is_finite() { Value::Float(float) } else { Value::Null }
}
