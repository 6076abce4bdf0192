//! Hashes, as lower-case hexadecimal digits.

use blake2::{Blake2b512, Blake2s256};
use hookline_schemas::Value;
use md4::Md4;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};
use shake::{ExtendableOutput, Shake128, Shake256};

use super::argument::{bytes, choice};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure("md5", 1..=1, md5, "The MD5 hash.", ("md5('abc')", r#""900150983cd24fb0d6963f7d28e17f72""#)),
    pure("sha", 1..=1, sha, "The SHA-1 hash.", ("sha('abc')", r#""a9993e364706816aba3e25717850c26c9cd0d89d""#)),
    pure(
        "sha256",
        1..=1,
        sha256,
        "The SHA-256 hash.",
        ("sha256('abc')", r#""ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#),
    ),
    pure(
        "hash",
        2..=2,
        hash,
        "The hash of a kind: md4, md5, sha or sha1, sha224, sha256, sha384, sha512, sha3_224, sha3_256, sha3_384, sha3_512, blake2b, \
         blake2s, shake128 (16 bytes), shake256 (32 bytes).",
        ("hash('sha1', 'abc')", r#""a9993e364706816aba3e25717850c26c9cd0d89d""#),
    ),
];

type Hasher = fn(&[u8]) -> String;

const KINDS: &[(&str, Hasher)] = &[
    ("md4", of::<Md4>),
    ("md5", of::<Md5>),
    ("sha", of::<Sha1>),
    ("sha1", of::<Sha1>),
    ("sha224", of::<Sha224>),
    ("sha256", of::<Sha256>),
    ("sha384", of::<Sha384>),
    ("sha512", of::<Sha512>),
    ("sha3_224", of::<Sha3_224>),
    ("sha3_256", of::<Sha3_256>),
    ("sha3_384", of::<Sha3_384>),
    ("sha3_512", of::<Sha3_512>),
    ("blake2b", of::<Blake2b512>),
    ("blake2s", of::<Blake2s256>),
    ("shake128", extendable::<Shake128, 16>),
    ("shake256", extendable::<Shake256, 32>),
];

fn md5(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&of::<Md5>(bytes(&args[0])?)))
}

fn sha(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&of::<Sha1>(bytes(&args[0])?)))
}

fn sha256(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&of::<Sha256>(bytes(&args[0])?)))
}

fn hash(args: &[Value]) -> Result<Value, EvalError> {
    let hasher = choice(&args[0], KINDS)?;
    Ok(Value::text(&hasher(bytes(&args[1])?)))
}

fn of<D: Digest>(data: &[u8]) -> String {
    hexadecimal(D::digest(data).as_slice())
}

/// A hash that can be as long as one likes, at the length that its name tells.
fn extendable<D: ExtendableOutput + Default, const LEN: usize>(data: &[u8]) -> String {
    let mut out = [0; LEN];
    D::digest_xof(data, &mut out);
    hexadecimal(&out)
}

fn hexadecimal(data: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    data.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
