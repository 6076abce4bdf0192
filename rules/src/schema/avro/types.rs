//! Schemas as the codec walks them: a tree, with numbers in place of names, so that recursive types need no search.

use std::collections::HashMap;

use apache_avro::Schema as Parsed;
use apache_avro::schema::{DecimalSchema, FixedSchema, InnerDecimalSchema, Name, RecordField, RecordSchema, UuidSchema};

use super::Schema;

/// A type.
#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// The symbols.
    Enum(Vec<Box<str>>),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Branch>),
    Record(Vec<Field>),
    Decimal(Decimal),
    Uuid(UuidForm),
    /// Days since 1970.
    Date,
    /// Since 1970, in this unit.
    Timestamp(Unit),
    Duration,
    /// The place of a named type in the schema's list.
    Named(usize),
}

/// A branch of a union, with the name that JSON has for it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) name: Box<str>,
    pub(super) kind: Type,
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    /// Other names, as older schemas had them.
    pub(super) aliases: Vec<String>,
    pub(super) kind: Type,
    /// As the schema has it.
    pub(super) default_json: Option<serde_json::Value>,
    /// The same as data.
    pub(super) default: Option<Vec<u8>>,
}

/// A decimal number: an integer and where its point is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    /// Digits in all.
    pub(super) precision: usize,
    /// Digits behind the point.
    pub(super) scale: usize,
    /// The bytes of a fixed one.
    pub(super) size: Option<usize>,
}

/// How a UUID is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum UuidForm {
    Text,
    /// With their length before them.
    Bytes,
    Fixed,
}

/// The unit of a timestamp.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// The most digits that a decimal may have: what 128 bits hold.
const PRECISION_MAX: usize = 38;

/// Resolves the names of a schema.
pub(super) fn resolve(parsed: &Parsed) -> Result<Schema, String> {
    let mut resolver = Resolver::default();
    let root = resolver.kind(parsed, None)?;
    Ok(Schema { root, named: resolver.named })
}

#[derive(Default)]
struct Resolver {
    named: Vec<Type>,
    names: HashMap<String, usize>,
}

impl Resolver {
    fn kind(&mut self, parsed: &Parsed, namespace: Option<&str>) -> Result<Type, String> {
        Ok(match parsed {
            Parsed::Null => Type::Null,
            Parsed::Boolean => Type::Boolean,
            Parsed::Int | Parsed::TimeMillis => Type::Int,
            Parsed::Long
            | Parsed::TimeMicros
            | Parsed::LocalTimestampMillis
            | Parsed::LocalTimestampMicros
            | Parsed::LocalTimestampNanos => Type::Long,
            Parsed::Float => Type::Float,
            Parsed::Double => Type::Double,
            Parsed::Bytes | Parsed::BigDecimal => Type::Bytes,
            Parsed::String => Type::Text,
            Parsed::Array(array) => Type::Array(Box::new(self.kind(&array.items, namespace)?)),
            Parsed::Map(map) => Type::Map(Box::new(self.kind(&map.types, namespace)?)),
            Parsed::Union(union) => {
                let branches = union.variants().iter().map(|variant| {
                    let kind = self.kind(variant, namespace)?;
                    Ok(Branch { name: self.name_of(&kind), kind })
                });
                Type::Union(branches.collect::<Result<_, String>>()?)
            }
            Parsed::Record(record) => self.record(record, namespace)?,
            Parsed::Enum(symbols) => {
                let kind = Type::Enum(symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect());
                self.name(&symbols.name, namespace, kind)
            }
            Parsed::Fixed(fixed) => self.name(&fixed.name, namespace, Type::Fixed(fixed.size)),
            Parsed::Decimal(decimal) => self.decimal(decimal, namespace)?,
            Parsed::Uuid(UuidSchema::String) => Type::Uuid(UuidForm::Text),
            Parsed::Uuid(UuidSchema::Bytes) => Type::Uuid(UuidForm::Bytes),
            Parsed::Uuid(UuidSchema::Fixed(fixed)) => self.name(&fixed.name, namespace, Type::Uuid(UuidForm::Fixed)),
            Parsed::Date => Type::Date,
            Parsed::TimestampMillis => Type::Timestamp(Unit::Millis),
            Parsed::TimestampMicros => Type::Timestamp(Unit::Micros),
            Parsed::TimestampNanos => Type::Timestamp(Unit::Nanos),
            Parsed::Duration(FixedSchema { name, size: 12, .. }) => self.name(name, namespace, Type::Duration),
            Parsed::Duration(fixed) => return Err(format!("a duration has 12 bytes, not {}", fixed.size)),
            Parsed::Ref { name } => {
                let full = name.fullname(namespace);
                let index = self.names.get(&full).ok_or_else(|| format!("there is no type \"{full}\" before it is used"))?;
                Type::Named(*index)
            }
        })
    }

    fn record(&mut self, record: &RecordSchema, namespace: Option<&str>) -> Result<Type, String> {
        // Its name comes first, because its own fields may use it.
        let place = self.name(&record.name, namespace, Type::Null);
        let namespace = record.name.namespace().or(namespace);
        let fields = record.fields.iter().map(|field| self.field(field, namespace)).collect::<Result<_, String>>()?;
        if let Type::Named(index) = place {
            self.named[index] = Type::Record(fields);
        }
        Ok(place)
    }

    fn field(&mut self, field: &RecordField, namespace: Option<&str>) -> Result<Field, String> {
        let kind = self.kind(&field.schema, namespace).map_err(|problem| format!("{}: {problem}", field.name))?;
        Ok(Field {
            name: field.name.as_str().into(),
            aliases: field.aliases.clone(),
            kind,
            default_json: field.default.clone(),
            default: None,
        })
    }

    fn decimal(&mut self, decimal: &DecimalSchema, namespace: Option<&str>) -> Result<Type, String> {
        let DecimalSchema { precision, scale, ref inner } = *decimal;
        if precision > PRECISION_MAX || scale > precision {
            return Err(format!("a decimal with {precision} digits, {scale} behind the point: at most {PRECISION_MAX} are served"));
        }
        Ok(match inner {
            InnerDecimalSchema::Bytes => Type::Decimal(Decimal { precision, scale, size: None }),
            InnerDecimalSchema::Fixed(fixed) => {
                let kind = Type::Decimal(Decimal { precision, scale, size: Some(fixed.size) });
                self.name(&fixed.name, namespace, kind)
            }
        })
    }

    /// Gives a type its number.
    fn name(&mut self, name: &Name, namespace: Option<&str>, kind: Type) -> Type {
        let index = self.named.len();
        self.named.push(kind);
        self.names.insert(name.fullname(namespace), index);
        Type::Named(index)
    }

    /// The name that a branch of a union has.
    fn name_of(&self, kind: &Type) -> Box<str> {
        let name = match kind {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Int | Type::Date => "int",
            Type::Long | Type::Timestamp(_) => "long",
            Type::Float => "float",
            Type::Double => "double",
            Type::Bytes | Type::Decimal(_) | Type::Uuid(UuidForm::Bytes) => "bytes",
            Type::Text | Type::Uuid(_) => "string",
            Type::Array(_) => "array",
            Type::Map(_) => "map",
            Type::Named(index) => self.names.iter().find(|(_, other)| *other == index).map_or("", |(name, _)| name.as_str()),
            // These have names, and are behind `Named`; a union holds no union.
            Type::Fixed(_) | Type::Enum(_) | Type::Record(_) | Type::Duration | Type::Union(_) => "",
        };
        name.into()
    }
}
