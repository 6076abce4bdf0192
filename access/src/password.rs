//! Passwords against what is kept of them. Comparisons take the same time wherever the first difference is.

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hookline_schemas::config::{Algorithm, MacFun, PasswordHash, SaltPosition};
use md5::{Digest, Md5};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

/// Rounds that a stored hash may ask for: beyond, it is an attack on the processor.
const ROUNDS_MAX: u32 = 10_000_000;

/// A hash that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HashError(&'static str);

/// Whether a password is the one that `hash` was made of.
///
/// # Errors
/// The hash has not the form that the settings say.
pub fn verify(settings: &PasswordHash, password: &[u8], hash: &str, salt: &str) -> Result<bool, HashError> {
    match settings.algorithm {
        Algorithm::Auto => verify_by_its_form(settings, password, hash, salt),
        Algorithm::Plain => Ok(same(password, hash.as_bytes())),
        Algorithm::Md5 => Ok(salted::<Md5>(settings, password, hash, salt)),
        Algorithm::Sha => Ok(salted::<Sha1>(settings, password, hash, salt)),
        Algorithm::Sha256 => Ok(salted::<Sha256>(settings, password, hash, salt)),
        Algorithm::Sha512 => Ok(salted::<Sha512>(settings, password, hash, salt)),
        Algorithm::Bcrypt => bcrypt::verify(password, hash).map_err(|_| HashError("it is no bcrypt hash")),
        Algorithm::Argon2 => argon2(password, hash),
        Algorithm::Pbkdf2 => {
            let bytes = hash.len() / 2;
            let wanted = if settings.dk_length == 0 { bytes } else { settings.dk_length };
            let derived = derive(settings.mac_fun, password, salt.as_bytes(), settings.iterations, wanted);
            Ok(same(hex(&derived).as_bytes(), hash.to_ascii_lowercase().as_bytes()))
        }
    }
}

/// Whether checking takes so long that it must not be done between other work.
pub(crate) fn is_slow(settings: &PasswordHash, hash: &str) -> bool {
    matches!(settings.algorithm, Algorithm::Bcrypt | Algorithm::Argon2 | Algorithm::Pbkdf2) || hash.starts_with('$')
}

/// The hash of a new password: argon2id.
///
/// # Errors
/// The password is too long.
pub fn hash(password: &[u8]) -> Result<String, HashError> {
    let hash = Argon2::default().hash_password(password).map_err(|_| HashError("the password cannot be hashed"))?;
    Ok(hash.to_string())
}

fn verify_by_its_form(settings: &PasswordHash, password: &[u8], hash: &str, salt: &str) -> Result<bool, HashError> {
    if hash.starts_with("$argon2") {
        return argon2(password, hash);
    }
    if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
        return bcrypt::verify(password, hash).map_err(|_| HashError("it is no bcrypt hash"));
    }
    if let Some(rest) = hash.strip_prefix("$6$") {
        let (salt, hash) = mosquitto(rest)?;
        return Ok(same(&digest::<Sha512>(&[password, &salt]), &hash));
    }
    if let Some((rounds, rest)) = hash.strip_prefix("$7$").and_then(|rest| rest.split_once('$')) {
        let (salt, hash) = mosquitto(rest)?;
        let rounds = rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds)).ok_or(HashError("its rounds are no number"))?;
        return Ok(same(&derive(MacFun::Sha512, password, &salt, rounds, hash.len()), &hash));
    }
    if let Some(rest) = hash.strip_prefix("$salted$") {
        return with_salt(rest, password);
    }
    if let Some(rest) = hash.strip_prefix("$pbkdf2$") {
        return with_rounds(rest, password);
    }
    if let Some((scheme, value)) = hash.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        return directory(scheme, password, value);
    }
    Ok(salted::<Sha256>(settings, password, hash, salt))
}

fn argon2(password: &[u8], hash: &str) -> Result<bool, HashError> {
    let parsed = argon2::PasswordHash::new(hash).map_err(|_| HashError("it is no argon2 hash"))?;
    Ok(Argon2::default().verify_password(password, &parsed).is_ok())
}

/// What an import makes of hashes that do not say what they are: `sha256$prefix$SALT$HASH`, the salt in base64, the hash in hexadecimal.
fn with_salt(rest: &str, password: &[u8]) -> Result<bool, HashError> {
    let wrong = HashError("behind $salted$ come a function, prefix or suffix, a salt and a hash");
    let parts: Vec<&str> = rest.split('$').collect();
    let [function, position, salt, hash] = parts[..] else { return Err(wrong) };
    let salt = decode(salt).ok_or(wrong.clone())?;
    let salted: [&[u8]; 2] = match position {
        "prefix" => [&salt, password],
        "suffix" => [password, &salt],
        _ => return Err(wrong),
    };
    let digest = match function {
        "md5" => digest::<Md5>(&salted),
        "sha" => digest::<Sha1>(&salted),
        "sha256" => digest::<Sha256>(&salted),
        "sha512" => digest::<Sha512>(&salted),
        _ => return Err(wrong),
    };
    Ok(same(hex(&digest).as_bytes(), hash.to_ascii_lowercase().as_bytes()))
}

/// The same of PBKDF2: `sha256$4096$SALT$HASH`.
fn with_rounds(rest: &str, password: &[u8]) -> Result<bool, HashError> {
    let wrong = HashError("behind $pbkdf2$ come a function, rounds, a salt and a hash");
    let parts: Vec<&str> = rest.split('$').collect();
    let [function, rounds, salt, hash] = parts[..] else { return Err(wrong) };
    let salt = decode(salt).ok_or(wrong.clone())?;
    let rounds = rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds)).ok_or(wrong.clone())?;
    let mac = match function {
        "md5" => MacFun::Md5,
        "sha" => MacFun::Sha,
        "sha224" => MacFun::Sha224,
        "sha256" => MacFun::Sha256,
        "sha384" => MacFun::Sha384,
        "sha512" => MacFun::Sha512,
        _ => return Err(wrong),
    };
    let derived = derive(mac, password, &salt, rounds, hash.len() / 2);
    Ok(!hash.is_empty() && same(hex(&derived).as_bytes(), hash.to_ascii_lowercase().as_bytes()))
}

/// Salt and hash behind the prefix of mosquitto_passwd.
fn mosquitto(rest: &str) -> Result<(Vec<u8>, Vec<u8>), HashError> {
    let wrong = HashError("it is no hash of mosquitto_passwd");
    let (salt, hash) = rest.split_once('$').ok_or(wrong.clone())?;
    match (decode(salt), decode(hash)) {
        (Some(salt), Some(hash)) if hash.len() == 64 => Ok((salt, hash)),
        _ => Err(wrong),
    }
}

/// What directories keep in `userPassword` (RFC 2307): the hash, then the salt.
fn directory(scheme: &str, password: &[u8], value: &str) -> Result<bool, HashError> {
    let bytes = decode(value).ok_or(HashError("it is not in base64"));
    fn check<D: Digest>(password: &[u8], bytes: &[u8]) -> bool {
        let size = <D as Digest>::output_size();
        bytes.len() >= size && same(&digest::<D>(&[password, &bytes[size..]]), &bytes[..size])
    }
    Ok(match scheme.to_ascii_uppercase().as_str() {
        "MD5" | "SMD5" => check::<Md5>(password, &bytes?),
        "SHA" | "SSHA" => check::<Sha1>(password, &bytes?),
        "SHA256" | "SSHA256" => check::<Sha256>(password, &bytes?),
        "SHA384" | "SSHA384" => check::<Sha384>(password, &bytes?),
        "SHA512" | "SSHA512" => check::<Sha512>(password, &bytes?),
        "CLEARTEXT" => same(password, value.as_bytes()),
        "ARGON2" => argon2(password, value)?,
        _ => return Err(HashError("its scheme is not known here; let the directory check passwords (method = \"bind\")")),
    })
}

fn salted<D: Digest>(settings: &PasswordHash, password: &[u8], hash: &str, salt: &str) -> bool {
    let parts: [&[u8]; 2] = match settings.salt_position {
        SaltPosition::Prefix => [salt.as_bytes(), password],
        SaltPosition::Suffix => [password, salt.as_bytes()],
        SaltPosition::Disable => [b"", password],
    };
    same(hex(&digest::<D>(&parts)).as_bytes(), hash.to_ascii_lowercase().as_bytes())
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut state = D::new();
    parts.iter().for_each(|part| state.update(part));
    state.finalize().to_vec()
}

fn derive(mac: MacFun, password: &[u8], salt: &[u8], rounds: u32, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes.min(1024)];
    match mac {
        MacFun::Md5 => pbkdf2_hmac::<Md5>(password, salt, rounds, &mut out),
        MacFun::Sha => pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut out),
        MacFun::Sha224 => pbkdf2_hmac::<Sha224>(password, salt, rounds, &mut out),
        MacFun::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut out),
        MacFun::Sha384 => pbkdf2_hmac::<Sha384>(password, salt, rounds, &mut out),
        MacFun::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut out),
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(algorithm: Algorithm, salt_position: SaltPosition) -> PasswordHash {
        PasswordHash { algorithm, salt_position, ..PasswordHash::default() }
    }

    /// The right password is taken and a wrong one is not.
    fn holds(settings: &PasswordHash, hash: &str, salt: &str) {
        assert_eq!(verify(settings, b"public", hash, salt), Ok(true), "{settings:?} {hash}");
        assert_eq!(verify(settings, b"Public", hash, salt), Ok(false), "{settings:?} {hash}");
        assert_ne!(verify(settings, b"", hash, salt), Ok(true), "{settings:?} {hash}");
    }

    #[test]
    fn every_function_and_place_of_the_salt() {
        holds(&settings(Algorithm::Plain, SaltPosition::Disable), "public", "");
        let md5 = hex(&digest::<Md5>(&[b"slat", b"public"]));
        holds(&settings(Algorithm::Md5, SaltPosition::Prefix), &md5.to_ascii_uppercase(), "slat");
        holds(&settings(Algorithm::Sha, SaltPosition::Suffix), &hex(&digest::<Sha1>(&[b"public", b"slat"])), "slat");
        // The digest of "public" alone, as any tool prints it.
        let plain = "efa1f375d76194fa51a3556a97e641e61685f914d446979da50a551a4333ffd7";
        holds(&settings(Algorithm::Sha256, SaltPosition::Disable), plain, "ignored");
        holds(&settings(Algorithm::Auto, SaltPosition::Disable), plain, "");
        holds(&settings(Algorithm::Sha512, SaltPosition::Prefix), &hex(&digest::<Sha512>(&[b"slat", b"public"])), "slat");
        let derived = hex(&derive(MacFun::Sha256, b"public", b"slat", 4096, 32));
        holds(&settings(Algorithm::Pbkdf2, SaltPosition::Prefix), &derived, "slat");
        let bcrypt = bcrypt::hash("public", 4).expect("hashed");
        holds(&settings(Algorithm::Bcrypt, SaltPosition::Prefix), &bcrypt, "");
        holds(&settings(Algorithm::Auto, SaltPosition::Prefix), &bcrypt, "");
        let argon2 = hash(b"public").expect("hashed");
        assert!(argon2.starts_with("$argon2id$"), "{argon2}");
        holds(&settings(Algorithm::Argon2, SaltPosition::Prefix), &argon2, "");
        holds(&settings(Algorithm::Auto, SaltPosition::Prefix), &argon2, "");
    }

    #[test]
    fn what_directories_and_mosquitto_write() {
        let auto = PasswordHash::default();
        let ssha = STANDARD.encode([digest::<Sha1>(&[b"public", b"salt"]), b"salt".to_vec()].concat());
        holds(&auto, &format!("{{SSHA}}{ssha}"), "");
        holds(&auto, &format!("{{sha512}}{}", STANDARD.encode(digest::<Sha512>(&[b"public"]))), "");
        let salt = STANDARD.encode(b"0123456789ab");
        let new = STANDARD.encode(derive(MacFun::Sha512, b"public", b"0123456789ab", 101, 64));
        holds(&auto, &format!("$7$101${salt}${new}"), "");
        let old = STANDARD.encode(digest::<Sha512>(&[b"public", b"0123456789ab"]));
        holds(&auto, &format!("$6${salt}${old}"), "");
        let prefixed = hex(&digest::<Sha256>(&[b"0123456789ab", b"public"]));
        holds(&auto, &format!("$salted$sha256$prefix${salt}${prefixed}"), "");
        let derived = hex(&derive(MacFun::Sha256, b"public", b"0123456789ab", 1000, 32));
        holds(&auto, &format!("$pbkdf2$sha256$1000${salt}${derived}"), "");
        for wrong in [
            "$salted$sha256$middle$a$b",
            "$salted$x",
            "$pbkdf2$sha256$0$a$b",
            "$pbkdf2$x",
            "{CRYPT}x",
            "$7$9999999999$a$b",
            "$7$x$a$b",
            "$6$a",
            "$argon2id$x",
            "$2b$x",
            "{SSHA}%",
        ] {
            assert!(verify(&auto, b"public", wrong, "").is_err(), "{wrong}");
        }
        assert_eq!(verify(&auto, b"public", "", ""), Ok(false), "an empty hash is nobody's");
    }
}
