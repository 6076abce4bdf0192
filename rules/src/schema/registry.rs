//! All schemas of the configuration, by name and by number, and the ones in force for the whole process.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arc_swap::{ArcSwap, Guard};
use hookline_schemas::config::{Schema as Settings, SchemaKind};

use super::{Codec, Schema, avro, json, protobuf};
use crate::error::{EvalError, did_you_mean};

/// Schemas, compiled.
#[derive(Debug, Default)]
pub struct Registry {
    by_name: BTreeMap<Box<str>, Arc<Schema>>,
    by_id: HashMap<u32, Arc<Schema>>,
}

/// A schema that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("schemas.{schema}.{key}: {problem}")]
pub struct SchemaError {
    pub schema: String,
    pub key: &'static str,
    pub problem: String,
}

/// The schemas in force: functions have nothing but their arguments, so they look here.
static IN_FORCE: LazyLock<ArcSwap<Registry>> = LazyLock::new(ArcSwap::default);

/// Puts schemas in force, all in place of all. Statements that run now finish with those they have.
pub fn install(registry: Arc<Registry>) {
    IN_FORCE.store(registry);
}

/// The schemas in force.
pub(crate) fn in_force() -> Guard<Arc<Registry>> {
    IN_FORCE.load()
}

impl Registry {
    /// Compiles schemas. `read` reads the files of those that have their text in one.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn new(schemas: &BTreeMap<String, Settings>, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Registry, Vec<SchemaError>> {
        let mut errors = Vec::new();
        let mut texts = Vec::new();
        let mut protobuf_sources = protobuf::Sources::default();
        for (name, settings) in schemas {
            match text_of(settings, read) {
                Ok((key, text)) => {
                    if settings.kind == SchemaKind::Protobuf {
                        protobuf_sources.insert(name, &text);
                    }
                    texts.push((name, settings, key, text));
                }
                Err((key, problem)) => errors.push(SchemaError { schema: name.clone(), key, problem }),
            }
        }
        let mut registry = Registry::default();
        for (name, settings, key, text) in texts {
            let compiled = match settings.kind {
                SchemaKind::Avro => avro::Schema::compile(&text).map(Codec::Avro),
                SchemaKind::Protobuf => protobuf::Schema::compile(name, &protobuf_sources).map(Codec::Protobuf),
                SchemaKind::Json => json::Schema::compile(&text).map(Codec::Json),
            };
            let added = compiled.map_err(|problem| (key, problem)).and_then(|codec| registry.add(name, settings.id, codec));
            if let Err((key, problem)) = added {
                errors.push(SchemaError { schema: name.clone(), key, problem });
            }
        }
        if errors.is_empty() { Ok(registry) } else { Err(errors) }
    }

    fn add(&mut self, name: &str, id: Option<u32>, codec: Codec) -> Result<(), (&'static str, String)> {
        let schema = Arc::new(Schema { name: name.into(), id, codec });
        if let Some(id) = id
            && let Some(other) = self.by_id.insert(id, Arc::clone(&schema))
        {
            return Err(("id", format!("{id} is the number of \"{}\", too; numbers must differ", other.name)));
        }
        self.by_name.insert(name.into(), schema);
        Ok(())
    }

    /// The schema of a name.
    ///
    /// # Errors
    /// Where there is none; names a similar one.
    pub fn get(&self, name: &str) -> Result<&Arc<Schema>, EvalError> {
        self.by_name.get(name).ok_or_else(|| {
            let hint = did_you_mean(name, self.by_name.keys().map(|known| &**known)).map(|near| format!("; did you mean \"{near}\"?"));
            EvalError::new(format!("there is no schema \"{name}\" in [schemas]{}", hint.unwrap_or_default()))
        })
    }

    /// The schema of a number.
    ///
    /// # Errors
    /// Where there is none.
    pub fn by_id(&self, id: u32) -> Result<&Arc<Schema>, EvalError> {
        self.by_id.get(&id).ok_or_else(|| EvalError::new(format!("there is no schema with id = {id} in [schemas]")))
    }
}

/// The text of a schema, and which setting it is from.
fn text_of(settings: &Settings, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<(&'static str, String), (&'static str, String)> {
    match (&settings.source, &settings.file) {
        (Some(source), None) => Ok(("source", source.clone())),
        (None, Some(file)) => match read(file) {
            Ok(text) => Ok(("file", text)),
            Err(error) => Err(("file", format!("cannot read {}: {error}", file.display()))),
        },
        (None, None) => Err(("source", "missing; give the text here, or the path of a file in \"file\"".to_owned())),
        (Some(_), Some(_)) => Err(("file", "there is a \"source\", too; one of them must go".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: SchemaKind, source: &str) -> Settings {
        Settings { kind, source: Some(source.to_owned()), file: None, id: None }
    }

    fn nothing(_: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn all_errors_are_told_at_once_and_name_the_setting() {
        let mut both = settings(SchemaKind::Json, "{}");
        both.file = Some("x".into());
        let schemas = BTreeMap::from([
            ("a".to_owned(), settings(SchemaKind::Avro, "nonsense")),
            ("b".to_owned(), both),
            ("c".to_owned(), Settings { source: None, ..settings(SchemaKind::Json, "") }),
            ("d".to_owned(), Settings { source: None, file: Some("gone.proto".into()), ..settings(SchemaKind::Protobuf, "") }),
            ("e".to_owned(), Settings { id: Some(1), ..settings(SchemaKind::Json, "{}") }),
            ("f".to_owned(), Settings { id: Some(1), ..settings(SchemaKind::Json, "{}") }),
        ]);
        let errors = Registry::new(&schemas, &nothing).expect_err("all but one are wrong");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let begins =
            ["schemas.a.source: ", "schemas.b.file: ", "schemas.c.source: missing", "schemas.d.file: cannot read gone", "schemas.f.id: 1"];
        for begin in begins {
            assert!(texts.iter().any(|text| text.starts_with(begin)), "{begin} is not in {texts:#?}");
        }
        assert_eq!(texts.len(), 5, "{texts:#?}");
    }

    #[test]
    fn schemas_come_from_files_and_are_found() {
        let file = Settings { source: None, file: Some("s.avsc".into()), id: Some(7), ..settings(SchemaKind::Avro, "") };
        let schemas = BTreeMap::from([("numbers".to_owned(), file)]);
        let registry = Registry::new(&schemas, &|path| Ok(if path == Path::new("s.avsc") { "\"long\"".to_owned() } else { String::new() }));
        let registry = registry.expect("valid");
        assert_eq!(registry.by_id(7).map(|schema| schema.name().to_owned()), Ok("numbers".to_owned()));
        let problem = registry.get("nmbers").map(drop).expect_err("unknown").to_string();
        assert_eq!(problem, "there is no schema \"nmbers\" in [schemas]; did you mean \"numbers\"?");
    }
}
