//! The events of `hookline rule test --event`: a file or standard input.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value as Json;

/// The columns of an event, as they were given.
pub(super) type Given = serde_json::Map<String, Json>;

/// Reads the events; without a file it is one that has nothing but a sample's columns.
pub(super) fn events(file: Option<&Path>) -> anyhow::Result<Vec<Given>> {
    let Some(path) = file else { return Ok(vec![Given::new()]) };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("cannot read the event from standard input")?;
        return parse(&text).context("standard input");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the event from {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

/// JSON objects one after the other, or arrays of them.
fn parse(text: &str) -> anyhow::Result<Vec<Given>> {
    let mut events = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
        match document? {
            Json::Array(items) => items.into_iter().try_for_each(|item| add(&mut events, item))?,
            other => add(&mut events, other)?,
        }
    }
    if events.is_empty() {
        bail!("there is no event; an event is a JSON object of columns, such as {{\"topic\": \"t/a\", \"payload\": {{}}}}");
    }
    Ok(events)
}

fn add(events: &mut Vec<Given>, json: Json) -> anyhow::Result<()> {
    let number = events.len() + 1;
    match json {
        Json::Object(given) => {
            events.push(given);
            Ok(())
        }
        other => bail!("event {number} is no JSON object of columns: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_alone_as_lines_and_as_arrays() {
        for (text, count) in [("{}", 1), ("{\"a\": 1}\n{\"b\": 2}\n", 2), ("[{}, {}, {}]", 3), ("{}\n[{}, {}]", 3)] {
            assert_eq!(parse(text).expect(text).len(), count, "{text}");
        }
        for (text, problem) in
            [("", "no event"), ("[]", "no event"), ("[1]", "event 1 is no JSON object"), ("{} 2", "event 2"), ("{", "line 1")]
        {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
