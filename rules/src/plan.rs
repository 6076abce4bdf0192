//! A statement that was checked and is ready to run: constants folded, the order of SELECT and WHERE decided, the keys of the
//! payload known that it reads.

use std::convert::Infallible;

use hookline_mqtt::topic::{self, Subscription};
use hookline_schemas::{HookPoint, Map, Value};

use crate::ast::{Each, Expr, Field, Query, Source, Step};
use crate::context::PathSet;
use crate::error::{SqlError, did_you_mean};
use crate::window::WindowPlan;
use crate::{eval, parser};

/// Functions that change what others read: they run in the order of the text.
pub(crate) const WRITING_FUNCTIONS: &[&str] = &["kv_store_put", "kv_store_del", "proc_dict_put", "proc_dict_del"];

/// Reads of more keys than this parse the whole payload.
const KEYS_MAX: usize = 16;

/// Constants larger than this are computed each time, and not kept with the statement.
const CONSTANT_BYTES_MAX: usize = 64 * 1024;

/// A statement, compiled.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) fields: Vec<Field>,
    pub(crate) each: Option<Each>,
    pub(crate) condition: Option<Expr>,
    pub(crate) order: Order,
    pub(crate) names: Names,
    /// Holds fields and condition where there is one.
    window: Option<WindowPlan>,
    pub(crate) filters: Vec<String>,
    pub(crate) points: Vec<HookPoint>,
    /// What FROM selects of bridges and sources, without `$bridges/` and `$sources/`.
    pub(crate) ingress: Vec<String>,
    /// All that stands behind FROM, as it is written.
    sources: Vec<String>,
}

/// What names in the statement mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Names {
    /// Names that fields define. A path that keeps its own name is none of them: it means the same before and after.
    pub(crate) aliases: Vec<Box<str>>,
    pub(crate) payload: PathSet,
    /// The column `metadata`: the rule, as `rule_id`. `*` leaves it out.
    pub(crate) metadata: Value,
}

impl Names {
    pub(crate) fn new(aliases: Vec<Box<str>>, payload: PathSet) -> Names {
        let mut names = Names { aliases, payload, metadata: Value::Undefined };
        names.set_rule("");
        names
    }

    pub(crate) fn set_rule(&mut self, rule: &str) {
        let mut metadata = Map::new();
        metadata.push_new("rule_id", Value::text(rule));
        self.metadata = Value::Map(metadata);
    }
}

/// When WHERE is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// Before all fields: it names none of them.
    ConditionFirst,
    /// After these fields, and before the others.
    Needed(Vec<usize>),
    /// After all fields, because one of them changes what others read, or because it names the list of FOREACH.
    FieldsFirst,
}

impl Statement {
    /// Compiles a statement.
    ///
    /// # Errors
    /// What is wrong with it, and at which column.
    pub fn compile(sql: &str) -> Result<Statement, SqlError> {
        let Query { fields, each, from, condition, window } = parser::parse(sql)?;
        let mut statement = Statement {
            fields: fields.into_iter().map(fold_field).collect(),
            each: each.map(fold_each),
            condition: condition.map(fold),
            order: Order::ConditionFirst,
            names: Names::new(Vec::new(), PathSet::All),
            window: None,
            filters: Vec::new(),
            points: Vec::new(),
            ingress: Vec::new(),
            sources: from.iter().map(|source| source.name.clone()).collect(),
        };
        for source in from {
            statement.select_source(sql, source)?;
        }
        statement.points.sort_unstable();
        statement.points.dedup();
        if let Some(clause) = window {
            let (fields, condition) = (std::mem::take(&mut statement.fields), statement.condition.take());
            statement.window = Some(WindowPlan::new(sql, fields, condition, clause)?);
            return Ok(statement);
        }
        let mut exprs = field_exprs(&statement.fields);
        exprs.extend(&statement.condition);
        let mut aliases = aliases(&statement.fields);
        if let Some(each) = &statement.each {
            exprs.extend([&each.list].into_iter().chain(&each.keep));
            exprs.extend(field_exprs(each.fields.as_deref().unwrap_or_default()));
            aliases.extend(self::aliases(each.fields.as_deref().unwrap_or_default()));
        }
        let payload = payload_keys(&exprs);
        statement.order = order(&statement);
        statement.names = Names::new(aliases, payload);
        Ok(statement)
    }

    fn select_source(&mut self, sql: &str, source: Source) -> Result<(), SqlError> {
        let Source { name, offset } = source;
        let fail = |problem: String| Err(SqlError::at(sql, offset, problem));
        if name.starts_with("$events/") {
            let found = HookPoint::select(&name);
            if found.is_empty() {
                let known = HookPoint::TABLE.iter().flat_map(|spec| [spec.topic, spec.legacy_topic]).filter(|topic| !topic.is_empty());
                let hint = did_you_mean(&name, known).map(|near| format!("; did you mean \"{near}\"?"));
                return fail(format!("there is no event \"{name}\"{}", hint.unwrap_or_default()));
            }
            self.points.extend(found);
        } else if let Some(Subscription::Shared { filter, .. } | Subscription::Exclusive(filter)) = Subscription::parse(&name) {
            return fail(format!("\"{name}\" is for clients; a rule sees every message: write \"{filter}\""));
        } else if !topic::filter_is_valid(&name, usize::MAX) {
            return fail(format!("\"{name}\" is no topic filter: \"#\" must be last, and wildcards must stand alone in their level"));
        } else if let Some(ingress) = without_ingress(&name) {
            self.ingress.push(ingress.to_owned());
        } else {
            self.filters.push(name);
        }
        Ok(())
    }

    /// The statement of the rule with this name, which it finds in `metadata.rule_id`.
    #[must_use]
    pub fn of_rule(mut self, rule: &str) -> Statement {
        self.names.set_rule(rule);
        if let Some(window) = &mut self.window {
            window.set_rule(rule);
        }
        self
    }

    /// Whether a message with this topic is for it.
    pub fn selects_topic(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| topic::matches(filter, topic))
    }

    /// Whether what a bridge or a source brings is for it; `source` is its name in FROM, such as `$sources/kafka:orders`.
    pub fn selects_source(&self, source: &str) -> bool {
        without_ingress(source).is_some_and(|name| self.ingress.iter().any(|filter| topic::matches(filter, name)))
    }

    /// The topic filters and events behind FROM, as they are written.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// The events that FROM names, beside messages.
    pub fn points(&self) -> &[HookPoint] {
        &self.points
    }

    /// Whether an event that is given as columns is for it: by `event` and, for a message, `topic`.
    pub fn matches_event(&self, columns: &Value) -> bool {
        let column = |name: &'static str| columns.path([name]).as_text().unwrap_or_default();
        let event = column("event");
        match event {
            "message.publish" | "" => self.selects_topic(column("topic")),
            _ => self.selects_source(event) || self.points.iter().any(|point| point.name() == event),
        }
    }

    /// The window, where it has one: its rows do not come with an event, but when the window closes.
    pub fn window(&self) -> Option<&WindowPlan> {
        self.window.as_ref()
    }
}

fn without_ingress(name: &str) -> Option<&str> {
    name.strip_prefix("$sources/").or_else(|| name.strip_prefix("$bridges/"))
}

fn fold_field(field: Field) -> Field {
    match field {
        Field::All => Field::All,
        Field::Expr { expr, alias, offset } => Field::Expr { expr: fold(expr), alias, offset },
    }
}

fn fold_each(each: Each) -> Each {
    Each {
        list: fold(each.list),
        fields: each.fields.map(|fields| fields.into_iter().map(fold_field).collect()),
        keep: each.keep.map(fold),
        ..each
    }
}

/// Computes what does not depend on the event. What fails is left for the evaluation to report.
pub(crate) fn fold(expr: Expr) -> Expr {
    let Ok(expr) = expr.try_map(&mut |part| Ok::<_, Infallible>(fold(part)));
    let is_foldable = match &expr {
        Expr::Literal(_) | Expr::Path(_) | Expr::Slot(_) | Expr::Aggregate(_) => false,
        Expr::Call(function, _) => function.pure,
        _ => true,
    };
    if !is_foldable || !expr.parts().into_iter().all(|part| matches!(part, Expr::Literal(_))) {
        return expr;
    }
    let value = eval::constant(&expr).filter(|value| eval::measure(value, 0).is_ok_and(|bytes| bytes <= CONSTANT_BYTES_MAX));
    value.map_or(expr, Expr::Literal)
}

/// All expressions of fields, and of the indices in their names.
pub(crate) fn field_exprs(fields: &[Field]) -> Vec<&Expr> {
    let mut exprs = Vec::new();
    for field in fields {
        if let Field::Expr { expr, alias, .. } = field {
            exprs.push(expr);
            exprs.extend(alias.iter().flat_map(Step::parts));
        }
    }
    exprs
}

/// The names that fields define.
pub(crate) fn aliases(fields: &[Field]) -> Vec<Box<str>> {
    fields.iter().filter_map(alias).map(Into::into).collect()
}

fn alias(field: &Field) -> Option<&str> {
    match field {
        Field::Expr { expr: Expr::Path(own), alias, .. } if own == alias => None,
        Field::Expr { alias, .. } => first_key(alias),
        Field::All => None,
    }
}

fn first_key(steps: &[Step]) -> Option<&str> {
    match steps.first() {
        Some(Step::Key(key)) => Some(key),
        _ => None,
    }
}

/// All paths in an expression, also those in indices.
pub(crate) fn paths<'a>(expr: &'a Expr, found: &mut Vec<&'a [Step]>) {
    if let Expr::Path(steps) = expr {
        found.push(steps);
    }
    expr.parts().into_iter().for_each(|part| paths(part, found));
}

/// What the expressions read of the payload.
pub(crate) fn payload_keys(exprs: &[&Expr]) -> PathSet {
    let mut found = Vec::new();
    exprs.iter().for_each(|expr| paths(expr, &mut found));
    let mut keys: Vec<Box<str>> = Vec::new();
    for steps in found {
        let ([Step::Key(column), rest @ ..], true) = (steps, steps.len() > 1) else { continue };
        if &**column != "payload" {
            continue;
        }
        let Some(key) = first_key(rest) else { return PathSet::All };
        keys.push(key.into());
        // `payload.list[i]`: `i` may be a key of the payload too.
        let indices = rest.iter().flat_map(Step::parts).filter_map(|index| match index {
            Expr::Path(steps) => first_key(steps),
            _ => None,
        });
        keys.extend(indices.map(Box::from));
    }
    keys.sort_unstable();
    keys.dedup();
    if keys.len() > KEYS_MAX { PathSet::All } else { PathSet::Keys(keys.into()) }
}

/// When WHERE is evaluated: as early as that means the same.
fn order(statement: &Statement) -> Order {
    let Some(condition) = &statement.condition else { return Order::ConditionFirst };
    let fields = &statement.fields;
    let list = statement.each.as_ref().map(|each| &each.list);
    if field_exprs(fields).into_iter().chain([condition]).chain(list).any(writes) {
        return Order::FieldsFirst;
    }
    let mut wanted = names(condition);
    if statement.each.as_ref().is_some_and(|each| each.is_named && wanted.contains(&&*each.name)) {
        return Order::FieldsFirst;
    }
    // From the last field to the first: a field sees only what stands before it.
    let mut needed = Vec::new();
    for (number, field) in fields.iter().enumerate().rev() {
        if alias(field).is_some_and(|alias| wanted.contains(&alias)) {
            needed.push(number);
            field_exprs(std::slice::from_ref(field)).into_iter().for_each(|expr| wanted.extend(names(expr)));
        }
    }
    needed.reverse();
    match needed.is_empty() {
        true => Order::ConditionFirst,
        false if is_mixed(fields, &wanted, &needed) => Order::FieldsFirst,
        false => Order::Needed(needed),
    }
}

/// Whether a field without a name of its own changes what a name means that is asked for, so that it is known only behind all fields:
/// `payload.a` beside `1 AS payload.b`, and `*` beside a needed field that is made of parts.
fn is_mixed(fields: &[Field], wanted: &[&str], needed: &[usize]) -> bool {
    let is_of_parts = |number: &usize| matches!(fields.get(*number), Some(Field::Expr { alias, .. }) if alias.len() > 1);
    let is_defined = |name: &str| fields.iter().any(|field| alias(field) == Some(name));
    fields.iter().any(|field| match field {
        Field::All => needed.iter().any(is_of_parts),
        Field::Expr { alias: own, .. } => {
            alias(field).is_none() && first_key(own).is_some_and(|name| wanted.contains(&name) && is_defined(name))
        }
    })
}

/// The names that the paths of an expression begin with.
fn names(expr: &Expr) -> Vec<&str> {
    let mut found = Vec::new();
    paths(expr, &mut found);
    found.into_iter().filter_map(first_key).collect()
}

fn writes(expr: &Expr) -> bool {
    matches!(expr, Expr::Call(function, _) if WRITING_FUNCTIONS.contains(&function.name)) || expr.parts().into_iter().any(writes)
}
