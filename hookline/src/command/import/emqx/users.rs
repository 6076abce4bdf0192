//! Built-in users: files as EMQX imports them, whose hashes do not say what they are.

use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::super::Imported;

/// The file that is made.
const FILE: &str = "users";

/// One user of the file.
struct User {
    name: String,
    hash: String,
    salt: String,
    is_superuser: bool,
}

/// The authenticator `password_based:built_in_database`; who may do everything.
pub(super) fn built_in(imported: &mut Imported, settings: &Json, users: Option<&Path>, beside: &Path) -> anyhow::Result<Vec<String>> {
    if settings["user_id_type"] == "clientid" {
        imported.note("authentication built_in_database: user_id_type = clientid: here users are known by their user names");
    }
    let Some(file) = users else {
        let made = Table::from_iter([("name".to_owned(), Value::from("store")), ("type".to_owned(), "built_in".into())]);
        imported.push(&["authentication"], made);
        imported.note("authentication built_in_database: THE USERS ARE NOT IN THE CONFIGURATION; give them by --users FILE (CSV or JSON, as EMQX imports them), or set them by \"hookline ctl users set\"");
        return Ok(Vec::new());
    };
    let mut lines = String::new();
    let mut superusers = Vec::new();
    for User { name, hash, salt, is_superuser } in read(file)? {
        ensure!(!name.is_empty() && !name.contains([':', '\n']), "{}: \"{name}\" cannot be a name in a file of users", file.display());
        let hash = self_describing(&settings["password_hash_algorithm"], &hash, &salt)
            .with_context(|| format!("{}: user {name}", file.display()))?;
        lines.push_str(&format!("{name}:{hash}\n"));
        if is_superuser {
            superusers.push(name);
        }
    }
    imported.files.push((FILE.into(), lines.into_bytes()));
    let path = beside.join(FILE).display().to_string();
    let made =
        Table::from_iter([("name".to_owned(), Value::from("users")), ("type".to_owned(), "file".into()), ("path".to_owned(), path.into())]);
    imported.push(&["authentication"], made);
    Ok(superusers)
}

fn read(file: &Path) -> anyhow::Result<Vec<User>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.trim_start().starts_with('[') {
        let list: Vec<Json> = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        let field = |user: &Json, key: &str| user[key].as_str().unwrap_or_default().to_owned();
        let one = |user: &Json| User {
            name: field(user, "user_id"),
            hash: field(user, "password_hash"),
            salt: field(user, "salt"),
            is_superuser: user["is_superuser"] == Json::Bool(true) || user["is_superuser"] == "true",
        };
        return Ok(list.iter().map(one).collect());
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let place = |name: &str| head.iter().position(|column| *column == name);
    let (Some(name), Some(hash)) = (place("user_id"), place("password_hash")) else {
        anyhow::bail!("{}: its first line must name user_id and password_hash", file.display())
    };
    Ok(lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
            let field = |place: Option<usize>| place.and_then(|place| fields.get(place)).copied().unwrap_or_default().to_owned();
            User {
                name: field(Some(name)),
                hash: field(Some(hash)),
                salt: field(place("salt")),
                is_superuser: matches!(field(place("is_superuser")).as_str(), "true" | "1"),
            }
        })
        .collect())
}

/// A hash with what it takes to check it.
fn self_describing(algorithm: &Json, hash: &str, salt: &str) -> anyhow::Result<String> {
    let name = algorithm["name"].as_str().or(algorithm.as_str()).unwrap_or("sha256");
    let encoded = STANDARD.encode(salt);
    Ok(match name {
        "bcrypt" => hash.to_owned(),
        "plain" => format!("{{CLEARTEXT}}{hash}"),
        "pbkdf2" => {
            let (mac, rounds) = (algorithm["mac_fun"].as_str().unwrap_or("sha256"), algorithm["iterations"].as_u64().unwrap_or(4096));
            format!("$pbkdf2${mac}${rounds}${encoded}${hash}")
        }
        function @ ("md5" | "sha" | "sha256" | "sha512") => {
            let position = algorithm["salt_position"].as_str().unwrap_or("prefix");
            // Without a salt its place does not matter.
            let (position, encoded) = if position == "disable" { ("prefix", String::new()) } else { (position, encoded) };
            format!("$salted${function}${position}${encoded}${hash}")
        }
        other => anyhow::bail!("the function \"{other}\" is not known here"),
    })
}

/// The settings of how a database keeps passwords.
pub(super) fn password_hash(algorithm: &Json) -> Table {
    let mut made = Table::new();
    made.insert("algorithm".into(), algorithm["name"].as_str().unwrap_or("sha256").into());
    for key in ["salt_position", "mac_fun", "iterations", "dk_length"] {
        made.extend(super::plain(&algorithm[key]).map(|value| (key.to_owned(), value)));
    }
    made
}
