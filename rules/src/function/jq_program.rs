//! From the text of a jq program to what can be run. Programs are compiled with their operators guarded: texts and arrays that
//! they make stay within bounds.

use jaq_core::load::lex::{Lexer, StrPart};
use jaq_core::load::parse::{BinaryOp, Def, Parser, Pattern, Term};
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{bome, run, v};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};
use jaq_core::{Compiler, Cv, Filter, RunPtr, ValXs};
use jaq_json::{Error, Num, Val};

use super::argument::{BYTES_MAX, ELEMENTS_MAX};
use super::jq::Bounded;

/// The parser calls itself for what is nested; this bounds how deeply.
const PROGRAM_BYTES_MAX: usize = 16 * 1024;

/// How deep a document may nest that a program reads: the library's reader calls itself for what is nested.
const NESTING_MAX: usize = 512;
/// How many digits a number may have there: reading one takes the square of its length.
const DIGITS_MAX: usize = 1000;
/// How many bits a product of integers may have.
const BITS_MAX: u64 = 4096;

/// What the library has and programs here do not: `env` tells secrets, and `range` makes any number of values in one step.
const LEFT_OUT: &[&str] = &["env", "range"];
/// What there is instead.
const INSTEAD: &str = "def env: {};
def fromjson: hookline_readable | hookline_fromjson;
def range($from; $to; $by):
  def up: if . < $to then ., (. + $by | up) else {}[] end;
  def down: if . > $to then ., (. + $by | down) else {}[] end;
  def same: ., same;
  $from | if $by > 0 then up elif $by < 0 then down elif . == $to then {}[] else same end;
";

/// The definition that is the program itself.
const PROGRAM: &str = "hookline_program";
/// Native: its input where it can be read as JSON safely.
const READABLE: &str = "hookline_readable";
/// Native: the library's own `fromjson`.
const FROM_JSON: &str = "hookline_fromjson";
/// Native: its input where it is within bounds.
const WITHIN: &str = "hookline_within";
/// Native: a product that is within bounds.
const PRODUCT: &str = "hookline_product";
/// The variable for the right side of `+=` and `*=`.
const RIGHT: &str = "$hookline_right";

/// Compiles a program. It runs in the thread with the large stack.
pub(super) fn compile(program: &str) -> Result<Filter<Bounded>, String> {
    if program.len() > PROGRAM_BYTES_MAX {
        return Err(format!("a program has at most {PROGRAM_BYTES_MAX} bytes"));
    }
    let body = parse(program)?;
    let instead = load::parse(INSTEAD, |parser| parser.defs()).ok_or("the definitions of jq are damaged")?;
    // They come first, because what follows uses them.
    let library = instead.into_iter().chain(jaq_core::defs()).chain(jaq_std::defs()).chain(jaq_json::defs());
    let mut definitions: Vec<Def<&str>> = library.map(guarded_def).collect();
    definitions.push(Def { name: PROGRAM, args: Vec::new(), body: guarded(body) });
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: PROGRAM, path: () });
    let modules = modules.map_err(|_| "the definitions of jq are damaged")?;
    let natives = jaq_core::funs::<Bounded>().chain(jaq_std::funs::<Bounded>()).chain(jaq_json::funs::<Bounded>());
    let natives = natives.filter(|(name, ..)| !LEFT_OUT.contains(name));
    let renamed = |name: &'static str| if name == "fromjson" { FROM_JSON } else { name };
    let natives = natives.map(|(name, arity, code)| (renamed(name), arity, code));
    let own: [(&str, usize, RunPtr<Bounded>); 3] = [(WITHIN, 0, within), (PRODUCT, 2, product), (READABLE, 0, readable)];
    let own = own.map(|(name, arity, code)| run::<Bounded>((name, v(arity), code)));
    Compiler::default().with_funs(natives.chain(own)).compile(modules).map_err(|errors| {
        let name = errors.iter().find_map(|(_, errors)| errors.first().map(|(name, _)| *name));
        format!("the program names what is not there: {}", name.unwrap_or_default())
    })
}

fn parse(program: &str) -> Result<Term<&str>, String> {
    let near = |place: Option<&str>| {
        let place: String = place.unwrap_or("its end").chars().take(40).collect();
        format!("the program is not jq, near {place}")
    };
    let tokens = Lexer::new(program).lex().map_err(|errors| near(errors.first().map(|(_, place)| *place)))?;
    let parsed = Parser::new(&tokens).parse(|parser| parser.term());
    parsed.map_err(|errors| near(errors.first().and_then(|(_, token)| token.map(|token| token.0))))
}

/// Whether the library's reader can be trusted with a document.
pub(super) fn check_document(document: &[u8]) -> Result<(), &'static str> {
    let (mut depth, mut digits) = (0usize, 0usize);
    let mut rest = document.iter();
    while let Some(byte) = rest.next() {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            // To the end of a text; what is escaped does not end it.
            b'"' => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            rest.next();
                        }
                        _ => {}
                    }
                }
            }
            // The reader takes it for a comment.
            b'#' => while rest.next().is_some_and(|byte| *byte != b'\n') {},
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err("the document nests too deeply");
        }
        if digits > DIGITS_MAX {
            return Err("a number in the document has too many digits");
        }
    }
    Ok(())
}

/// The input, unless it is a text that cannot be read as JSON safely.
fn readable((_, value): Cv<'_, Bounded>) -> ValXs<'_, Val> {
    let checked = match &value {
        Val::TStr(text) | Val::BStr(text) => check_document(text),
        _ => Ok(()),
    };
    bome(checked.map(|()| value).map_err(Error::str))
}

/// The input, unless it is too large: what makes values larger step by step ends here.
fn within((_, value): Cv<'_, Bounded>) -> ValXs<'_, Val> {
    let fits = match &value {
        Val::TStr(text) | Val::BStr(text) => text.len() <= BYTES_MAX,
        Val::Arr(items) => items.len() <= ELEMENTS_MAX,
        _ => true,
    };
    bome(if fits { Ok(value) } else { Err(too_large()) })
}

/// The product of two values; a text is repeated, and that is counted before it is done.
fn product((mut context, _): Cv<'_, Bounded>) -> ValXs<'_, Val> {
    let right = context.pop_var();
    let left = context.pop_var();
    let fits = match (&left, &right) {
        (Val::TStr(text) | Val::BStr(text), Val::Num(times)) | (Val::Num(times), Val::TStr(text) | Val::BStr(text)) => {
            text.len() as f64 * times_of(times) <= BYTES_MAX as f64
        }
        (Val::Num(left), Val::Num(right)) => bits_of(left) + bits_of(right) <= BITS_MAX,
        _ => true,
    };
    bome(if fits { left * right } else { Err(too_large()) })
}

/// How large an integer is; others have a fixed size.
fn bits_of(number: &Num) -> u64 {
    match number {
        Num::BigInt(int) => int.bits(),
        _ => 0,
    }
}

fn times_of(number: &Num) -> f64 {
    match number {
        Num::Int(int) => *int as f64,
        other => other.to_string().parse().unwrap_or(f64::INFINITY),
    }
}

fn too_large() -> Error {
    Error::str("a text, array or number within the program is too large")
}

fn guarded_def(def: Def<&str>) -> Def<&str> {
    Def { name: def.name, args: def.args, body: guarded(def.body) }
}

/// The term with a guard around all that makes texts and arrays larger.
fn guarded<'s>(term: Term<&'s str>) -> Term<&'s str> {
    let boxed = |term: Box<Term<&'s str>>| Box::new(guarded(*term));
    let all = |terms: Vec<Term<&'s str>>| terms.into_iter().map(guarded).collect::<Vec<_>>();
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => term,
        Term::Str(format, parts) => {
            let is_made = parts.iter().any(|part| matches!(part, StrPart::Term(_)));
            let text = Term::Str(format, parts.into_iter().map(guarded_part).collect());
            if is_made { within_bounds(text) } else { text }
        }
        Term::Arr(items) => Term::Arr(items.map(boxed)),
        // A key is told from other terms by its form, and stays as it is.
        Term::Obj(entries) => Term::Obj(entries.into_iter().map(|(key, value)| (key, value.map(guarded))).collect()),
        Term::Neg(term) => Term::Neg(boxed(term)),
        Term::BinOp(left, operator, right) => guarded_operator(boxed(left), operator, boxed(right)),
        Term::Label(name, term) => Term::Label(name, boxed(term)),
        Term::Fold(name, source, pattern, terms) => Term::Fold(name, boxed(source), guarded_pattern(pattern), all(terms)),
        Term::TryCatch(attempt, catch) => Term::TryCatch(boxed(attempt), catch.map(boxed)),
        Term::IfThenElse(branches, otherwise) => {
            let branches = branches.into_iter().map(|(when, then)| (guarded(when), guarded(then)));
            Term::IfThenElse(branches.collect(), otherwise.map(boxed))
        }
        Term::Def(defs, term) => Term::Def(defs.into_iter().map(guarded_def).collect(), boxed(term)),
        Term::Call(name, terms) => Term::Call(name, all(terms)),
        Term::Path(term, Path(parts)) => {
            let part = |part| match part {
                Part::Index(term) => Part::Index(guarded(term)),
                Part::Range(from, to) => Part::Range(from.map(guarded), to.map(guarded)),
            };
            Term::Path(boxed(term), Path(parts.into_iter().map(|(term, optional)| (part(term), optional)).collect()))
        }
    }
}

/// Sums and products, and `+=` and `*=` as what they stand for: `right as $x | left |= . + $x`.
fn guarded_operator<'s>(left: Box<Term<&'s str>>, operator: BinaryOp<&'s str>, right: Box<Term<&'s str>>) -> Term<&'s str> {
    match operator {
        BinaryOp::Math(Math::Add) => within_bounds(Term::BinOp(left, operator, right)),
        BinaryOp::Math(Math::Mul) => Term::Call(PRODUCT, vec![*left, *right]),
        BinaryOp::UpdateMath(math @ (Math::Add | Math::Mul)) => {
            let changed = guarded_operator(Box::default(), BinaryOp::Math(math), Box::new(Term::Var(RIGHT)));
            let update = Term::BinOp(left, BinaryOp::Update, Box::new(changed));
            Term::BinOp(right, BinaryOp::Pipe(Some(Pattern::Var(RIGHT))), Box::new(update))
        }
        BinaryOp::Pipe(pattern) => Term::BinOp(left, BinaryOp::Pipe(pattern.map(guarded_pattern)), right),
        operator => Term::BinOp(left, operator, right),
    }
}

fn within_bounds(term: Term<&str>) -> Term<&str> {
    Term::BinOp(Box::new(term), BinaryOp::Pipe(None), Box::new(Term::Call(WITHIN, Vec::new())))
}

fn guarded_part<'s>(part: StrPart<&'s str, Term<&'s str>>) -> StrPart<&'s str, Term<&'s str>> {
    match part {
        StrPart::Term(term) => StrPart::Term(guarded(term)),
        part => part,
    }
}

fn guarded_pattern(pattern: Pattern<&str>) -> Pattern<&str> {
    match pattern {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(guarded_pattern).collect()),
        Pattern::Obj(entries) => Pattern::Obj(entries.into_iter().map(|(key, value)| (key, guarded_pattern(value))).collect()),
    }
}
