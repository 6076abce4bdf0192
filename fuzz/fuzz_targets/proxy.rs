//! Bytes as a header of the PROXY protocol: nothing panics, the length lies inside the bytes, and more bytes behind a whole header
//! change nothing.

#![no_main]

use hookline_wire::proxy::{HEADER_BYTES_MAX, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match parse(input) {
        Ok(Some(header)) => {
            assert!(header.length <= input.len());
            assert_eq!(parse(&[input, b"more"].concat()), Ok(Some(header)));
        }
        Ok(None) => assert!(input.len() < HEADER_BYTES_MAX, "it asks for more for ever"),
        Err(_) => {}
    }
});
