//! Compression. What is unpacked is bounded: a small message must not become a large one.

use std::io::{Read, Write};

use flate2::read::GzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use flate2::{Compression, Decompress, FlushDecompress, Status};
use hookline_schemas::Value;

use super::argument::{BYTES_MAX, bytes, within};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure("gzip", 1..=1, gzip, "The bytes compressed as gzip (RFC 1952).", ("gunzip(gzip('hello'))", r#""hello""#)),
    pure("gunzip", 1..=1, gunzip, "The bytes that gzip compressed.", ("gunzip(gzip('hello'))", r#""hello""#)),
    pure("zip", 1..=1, zip, "The bytes compressed as bare deflate (RFC 1951).", ("unzip(zip('hello'))", r#""hello""#)),
    pure("unzip", 1..=1, unzip, "The bytes that zip compressed.", ("unzip(zip('hello'))", r#""hello""#)),
    pure(
        "zip_compress",
        1..=1,
        zip_compress,
        "The bytes compressed as zlib (RFC 1950).",
        ("zip_uncompress(zip_compress('hello'))", r#""hello""#),
    ),
    pure(
        "zip_uncompress",
        1..=1,
        zip_uncompress,
        "The bytes that zip_compress compressed.",
        ("zip_uncompress(zip_compress('hello'))", r#""hello""#),
    ),
];

fn gzip(args: &[Value]) -> Result<Value, EvalError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    packed(encoder.write_all(bytes(&args[0])?).and_then(|()| encoder.finish()))
}

fn zip(args: &[Value]) -> Result<Value, EvalError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    packed(encoder.write_all(bytes(&args[0])?).and_then(|()| encoder.finish()))
}

fn zip_compress(args: &[Value]) -> Result<Value, EvalError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    packed(encoder.write_all(bytes(&args[0])?).and_then(|()| encoder.finish()))
}

fn packed(data: std::io::Result<Vec<u8>>) -> Result<Value, EvalError> {
    data.map(|data| Value::Bytes(data.into())).map_err(|error| EvalError::new(format!("cannot compress: {error}")))
}

fn gunzip(args: &[Value]) -> Result<Value, EvalError> {
    let mut out = Vec::new();
    let unpacked = GzDecoder::new(bytes(&args[0])?).take(BYTES_MAX as u64 + 1).read_to_end(&mut out);
    unpacked.map_err(|error| EvalError::new(format!("the data is not gzip: {error}")))?;
    within(out.len())?;
    Ok(Value::Bytes(out.into()))
}

fn unzip(args: &[Value]) -> Result<Value, EvalError> {
    inflated(Decompress::new(false), bytes(&args[0])?)
}

fn zip_uncompress(args: &[Value]) -> Result<Value, EvalError> {
    inflated(Decompress::new(true), bytes(&args[0])?)
}

/// Unpacked to the end; data that breaks off is an error.
fn inflated(mut stream: Decompress, data: &[u8]) -> Result<Value, EvalError> {
    let mut out = Vec::new();
    loop {
        out.reserve(out.len().max(4096));
        let before = (stream.total_in(), out.len());
        // The position is within the data, so it fits.
        let rest = &data[stream.total_in() as usize..];
        let status = stream.decompress_vec(rest, &mut out, FlushDecompress::None);
        let status = status.map_err(|error| EvalError::new(format!("the data is not compressed: {error}")))?;
        within(out.len())?;
        if status == Status::StreamEnd {
            return Ok(Value::Bytes(out.into()));
        }
        if before == (stream.total_in(), out.len()) {
            return Err(EvalError::new("the compressed data breaks off"));
        }
    }
}
