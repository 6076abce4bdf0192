//! Bytes as packets of each version: nothing panics, nothing is read beyond the bound, and what is decoded is written back as
//! something that decodes to the same.

#![no_main]

use hookline_mqtt::packet::Packet;
use hookline_mqtt::{Version, decode};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1 << 16;

fuzz_target!(|input: &[u8]| {
    let Some((version, bytes)) = input.split_first() else { return };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(*version) % 3];
    let mut rest = bytes;
    while let Ok(Some((packet, length))) = decode(rest, version, BYTES_MAX) {
        assert!(length <= rest.len() && length <= BYTES_MAX && length >= 2);
        let mut out = Vec::new();
        let version = match &packet {
            Packet::Connect(connect) => {
                connect.encode(&mut out);
                connect.version
            }
            Packet::Publish(publish) => {
                publish.encode(&mut out, version);
                version
            }
            Packet::Subscribe(subscribe) => {
                subscribe.encode(&mut out, version);
                version
            }
            _ => {
                rest = &rest[length..];
                continue;
            }
        };
        let (again, _) = decode(&out, version, 2 * BYTES_MAX).expect("what was written is valid").expect("and whole");
        assert_eq!(again, packet);
        rest = &rest[length..];
    }
});
