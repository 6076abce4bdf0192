//! SCRAM (RFC 5802, RFC 7677): the server never learns the password, and the client learns that the server knows it.
//! Without channel binding.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::prelude::{BASE64_STANDARD, Engine};
use hookline_mqtt::ReasonCode;

use super::Step;
use crate::HashMap;

/// The hash of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    /// The name of the method.
    pub const fn method(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data)
    }

    fn digest(self, data: &[u8]) -> digest::Digest {
        digest::digest(if self == Hash::Sha256 { &digest::SHA256 } else { &digest::SHA512 }, data)
    }

    fn bytes(self) -> usize {
        if self == Hash::Sha256 { 32 } else { 64 }
    }
}

/// What the server knows of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$4096:salt$stored:server`, as PostgreSQL keeps it.
    fn parse(text: &str) -> Option<(Hash, Verifier)> {
        let (method, rest) = text.split_once('$')?;
        let hash = [Hash::Sha256, Hash::Sha512].into_iter().find(|hash| hash.method() == method)?;
        let (head, keys) = rest.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (head.split_once(':')?, keys.split_once(':')?);
        let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
        let (salt, stored_key, server_key) = (decode(salt)?, decode(stored)?, decode(server)?);
        let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
        let is_whole = stored_key.len() == hash.bytes() && server_key.len() == hash.bytes();
        is_whole.then_some((hash, Verifier { iterations, salt, stored_key, server_key }))
    }
}

/// What to write into the configuration for a password; the salt is a new one.
pub fn verifier(hash: Hash, password: &str, iterations: NonZeroU32) -> String {
    let mut salt = [0u8; 16];
    rand::fill(&mut salt).expect("the system has random numbers");
    verifier_with(hash, password, iterations, &salt)
}

fn verifier_with(hash: Hash, password: &str, iterations: NonZeroU32, salt: &[u8]) -> String {
    let password = stringprep::saslprep(password).map_or_else(|_| password.to_owned(), std::borrow::Cow::into_owned);
    let algorithm = if hash == Hash::Sha256 { pbkdf2::PBKDF2_HMAC_SHA256 } else { pbkdf2::PBKDF2_HMAC_SHA512 };
    let mut salted = vec![0u8; hash.bytes()];
    pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
    let stored = hash.digest(hash.hmac(&salted, b"Client Key").as_ref());
    let server = hash.hmac(&salted, b"Server Key");
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    format!("{}${iterations}:{}${}:{}", hash.method(), encode(salt), encode(stored.as_ref()), encode(server.as_ref()))
}

/// The users of one method.
#[derive(Debug)]
pub(super) struct Users {
    known: HashMap<String, Verifier>,
    /// Makes up salts for names that are not known, so that asking does not tell which are.
    secret: [u8; 32],
}

impl Users {
    /// A verifier for a name that is not known, which looks like those of the others and is always the same.
    fn invent(&self, hash: Hash, username: &str) -> Option<Verifier> {
        let noise = hash.hmac(&self.secret, username.as_bytes());
        let noise = noise.as_ref();
        let mut names: Vec<&String> = self.known.keys().collect();
        names.sort_unstable();
        let like = names.get(usize::from(u16::from_be_bytes([noise[30], noise[31]])) % names.len().max(1))?;
        let like = self.known.get(*like)?;
        let salt = noise.iter().copied().cycle().take(like.salt.len()).collect();
        let nothing = vec![0; hash.bytes()];
        Some(Verifier { iterations: like.iterations, salt, stored_key: nothing.clone(), server_key: nothing })
    }
}

/// The users of all methods.
#[derive(Debug)]
pub(super) struct Verifiers {
    sha256: Option<Arc<Users>>,
    sha512: Option<Arc<Users>>,
}

impl Verifiers {
    pub(super) fn new(users: &BTreeMap<String, String>) -> Result<Verifiers, Vec<String>> {
        let (mut sha256, mut sha512, mut errors) = (HashMap::default(), HashMap::default(), Vec::new());
        for (name, text) in users {
            match Verifier::parse(text) {
                Some((Hash::Sha256, verifier)) => drop(sha256.insert(name.clone(), verifier)),
                Some((Hash::Sha512, verifier)) => drop(sha512.insert(name.clone(), verifier)),
                None => errors.push(format!("scram.users.{name}: no verifier; \"hookline scram\" makes one of a password")),
            }
        }
        // The same after a restart: salts that change would tell who is not known.
        let all: Vec<u8> = users.iter().flat_map(|(name, text)| [name.as_bytes(), b"\0", text.as_bytes(), b"\0"].concat()).collect();
        let mut secret = [0u8; 32];
        secret.copy_from_slice(Hash::Sha256.digest(&all).as_ref());
        let make = |known: HashMap<String, Verifier>| (!known.is_empty()).then(|| Arc::new(Users { known, secret }));
        if errors.is_empty() { Ok(Verifiers { sha256: make(sha256), sha512: make(sha512) }) } else { Err(errors) }
    }

    pub(super) fn know(&self, username: &str) -> bool {
        [&self.sha256, &self.sha512].into_iter().flatten().any(|users| users.known.contains_key(username))
    }

    pub(super) fn of(&self, hash: Hash) -> Option<Arc<Users>> {
        if hash == Hash::Sha256 { self.sha256.clone() } else { self.sha512.clone() }
    }
}

/// One exchange, as the server sees it.
pub(super) struct Scram {
    hash: Hash,
    users: Arc<Users>,
    state: State,
}

enum State {
    Begin,
    Challenged { username: String, verifier: Verifier, is_known: bool, gs2: String, nonce: String, messages: String },
    Over,
}

impl Scram {
    pub(super) fn new(hash: Hash, users: Arc<Users>) -> Scram {
        Scram { hash, users, state: State::Begin }
    }

    pub(super) fn step(&mut self, data: &[u8]) -> Step {
        let refused = Step::Refuse(ReasonCode::NotAuthorized);
        let Ok(text) = std::str::from_utf8(data) else { return refused };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begin => self.challenge(text).unwrap_or(refused),
            State::Challenged { username, verifier, is_known, gs2, nonce, messages } => {
                let proven = check(self.hash, text, &verifier, &gs2, &nonce, &messages);
                match proven.filter(|_| is_known) {
                    Some(data) => Step::Accept { username, data },
                    None => refused,
                }
            }
            State::Over => refused,
        }
    }

    /// Answers the client's first message: `n,,n=name,r=nonce`.
    fn challenge(&mut self, text: &str) -> Option<Step> {
        let mut parts = text.splitn(3, ',');
        let (binding, identity, bare) = (parts.next()?, parts.next()?, parts.next()?);
        // "p=" asks for channel binding, which is not offered; another identity than one's own nobody may take.
        if !matches!(binding, "n" | "y") || !identity.is_empty() {
            return None;
        }
        let (name, rest) = bare.strip_prefix("n=")?.split_once(',')?;
        let client_nonce = rest.strip_prefix("r=")?.split(',').next().filter(|nonce| !nonce.is_empty())?;
        let username = unescape(name)?;
        let known = self.users.known.get(&username).cloned();
        let is_known = known.is_some();
        let verifier = match known {
            Some(verifier) => verifier,
            None => self.users.invent(self.hash, &username)?,
        };
        let mut own = [0u8; 18];
        rand::fill(&mut own).ok()?;
        let nonce = format!("{client_nonce}{}", BASE64_STANDARD.encode(own));
        let answer = format!("r={nonce},s={},i={}", BASE64_STANDARD.encode(&verifier.salt), verifier.iterations);
        let messages = format!("{bare},{answer}");
        self.state = State::Challenged { username, verifier, is_known, gs2: format!("{binding},,"), nonce, messages };
        Some(Step::Continue(answer.into_bytes()))
    }
}

/// Checks the client's last message: `c=binding,r=nonce,p=proof`; the server's own proof where it is right.
fn check(hash: Hash, text: &str, verifier: &Verifier, gs2: &str, nonce: &str, messages: &str) -> Option<Vec<u8>> {
    let (without_proof, proof) = text.rsplit_once(",p=")?;
    let mut parts = without_proof.split(',');
    let binding = parts.next()?.strip_prefix("c=")?;
    if BASE64_STANDARD.decode(binding).ok()? != gs2.as_bytes() || parts.next()?.strip_prefix("r=")? != nonce {
        return None;
    }
    let proof = BASE64_STANDARD.decode(proof).ok().filter(|proof| proof.len() == hash.bytes())?;
    let message = format!("{messages},{without_proof}");
    let signature = hash.hmac(&verifier.stored_key, message.as_bytes());
    let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    constant_time::verify_slices_are_equal(hash.digest(&client_key).as_ref(), &verifier.stored_key).ok()?;
    let server = hash.hmac(&verifier.server_key, message.as_bytes());
    Some(format!("v={}", BASE64_STANDARD.encode(server.as_ref())).into_bytes())
}

/// A name with `=2C` and `=3D` in place of comma and equals sign.
fn unescape(name: &str) -> Option<String> {
    let mut result = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        result.push_str(before);
        let (escaped, after) = after.split_at_checked(2)?;
        result.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = after;
    }
    result.push_str(rest);
    (!result.is_empty()).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: user "user", password "pencil".
    #[test]
    fn the_example_of_the_rfc_is_proven() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let text = verifier_with(Hash::Sha256, "pencil", NonZeroU32::new(4096).expect("not zero"), &salt);
        let (hash, verifier) = Verifier::parse(&text).expect("its own form");
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let messages = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let last = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let answer = check(hash, &last, &verifier, "n,,", nonce, &messages).expect("proven");
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let wrong = last.replace("dHzb", "eHzb");
        assert_eq!(check(hash, &wrong, &verifier, "n,,", nonce, &messages), None);
    }

    #[test]
    fn unknown_names_and_broken_messages_are_refused_and_tell_nothing() {
        let text = verifier(Hash::Sha512, "p", NonZeroU32::new(10).expect("not zero"));
        let verifiers = Verifiers::new(&BTreeMap::from([("u".to_owned(), text)])).expect("valid");
        assert!(verifiers.of(Hash::Sha256).is_none(), "nobody has that method");
        let begin = || Scram::new(Hash::Sha512, verifiers.of(Hash::Sha512).expect("one has it"));
        for broken in ["", "n,,", "n,,n=u", "p=tls-unique,,n=u,r=x", "n,a=other,n=u,r=x", "n,,n=,r=x", "n,,n=a=2,r=x", "n,,n=u,r="] {
            assert_eq!(begin().step(broken.as_bytes()), Step::Refuse(ReasonCode::NotAuthorized), "{broken}");
        }
        let mut unknown = begin();
        let challenge = |scram: &mut Scram| match scram.step(b"n,,n=nobody,r=abc") {
            Step::Continue(data) => String::from_utf8(data).expect("text"),
            other => panic!("{other:?}"),
        };
        let salt = |text: &str| text.split(',').nth(1).map(str::to_owned);
        assert_eq!(salt(&challenge(&mut unknown)), salt(&challenge(&mut begin())), "always the same salt");
        assert_eq!(unknown.step(b"c=biws,r=x,p=AAAA"), Step::Refuse(ReasonCode::NotAuthorized));
        assert_eq!(unknown.step(b"n,,n=u,r=x"), Step::Refuse(ReasonCode::NotAuthorized), "it is over");
        assert!(Verifiers::new(&BTreeMap::from([("u".to_owned(), "plain".to_owned())])).is_err());
        assert_eq!((unescape("a=2Cb=3Dc"), unescape("a=2cb")), (Some("a,b=c".into()), None));
    }
}
