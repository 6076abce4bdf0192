//! The defaults of fields, made data when the schema is read: so a wrong one is told at once, and a missing field costs a copy.

use serde_json::Value as Json;

use super::Schema;
use super::encode::Encoder;
use super::types::{Field, Type};
use crate::error::EvalError;
use crate::schema::{deeper, expected, in_field};

impl Schema {
    pub(super) fn render_defaults(&mut self) -> Result<(), String> {
        let schema: &Schema = self;
        let mut rendered = Vec::new();
        for (index, kind) in schema.named.iter().enumerate() {
            let Type::Record(fields) = kind else { continue };
            for (place, field) in fields.iter().enumerate() {
                let Some(json) = &field.default_json else { continue };
                let mut encoder = Encoder::new(schema);
                default(schema, &mut encoder, &field.kind, json, 0)
                    .map_err(|error| format!("the default of the field \"{}\": {error}", field.name))?;
                rendered.push((index, place, encoder.finish()));
            }
        }
        for (index, place, data) in rendered {
            if let Type::Record(fields) = &mut self.named[index] {
                fields[place].default = Some(data);
            }
        }
        Ok(())
    }
}

/// Writes a default, which is JSON in the form of the specification: bytes are characters up to 255, a union is its first branch
/// that fits.
fn default(schema: &Schema, encoder: &mut Encoder<'_>, kind: &Type, json: &Json, depth: usize) -> Result<(), EvalError> {
    let depth = deeper(depth)?;
    let kind = schema.resolve(kind);
    match (kind, json) {
        (Type::Union(branches), _) => {
            let start = encoder.len();
            for (index, branch) in branches.iter().enumerate() {
                encoder.long(index as i64);
                if default(schema, encoder, &branch.kind, json, depth).is_ok() {
                    return Ok(());
                }
                encoder.truncate(start);
            }
            Err(EvalError::new(format!("{json} fits no branch of the union")))
        }
        (Type::Record(fields), Json::Object(object)) => {
            for field in fields {
                let inner = object.get(&*field.name).or(field.default_json.as_ref());
                let inner = inner.ok_or_else(|| missing(field))?;
                default(schema, encoder, &field.kind, inner, depth).map_err(|error| in_field(&field.name, &error))?;
            }
            Ok(())
        }
        (Type::Array(element), Json::Array(items)) => {
            if !items.is_empty() {
                encoder.long(items.len() as i64);
            }
            items.iter().try_for_each(|item| default(schema, encoder, element, item, depth))?;
            encoder.long(0);
            Ok(())
        }
        (Type::Map(element), Json::Object(object)) => {
            if !object.is_empty() {
                encoder.long(object.len() as i64);
            }
            for (key, item) in object {
                encoder.bytes(key.as_bytes());
                default(schema, encoder, element, item, depth)?;
            }
            encoder.long(0);
            Ok(())
        }
        (Type::Bytes | Type::Fixed(_) | Type::Decimal(_) | Type::Duration, Json::String(text)) => {
            let bytes = text.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>();
            encoder.raw(kind, &bytes.map_err(|_| EvalError::new("bytes are characters up to 255"))?)
        }
        _ => {
            let value = hookline_schemas::Value::from_json(json.clone());
            if matches!(kind, Type::Record(_) | Type::Array(_) | Type::Map(_)) {
                return Err(expected("a JSON object or array", &value));
            }
            encoder.value(kind, &value, depth)
        }
    }
}

fn missing(field: &Field) -> EvalError {
    EvalError::new(format!("{}: missing, and without a default of its own", field.name))
}
