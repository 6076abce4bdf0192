//! Bytes as an upgrade request, and as the frames behind it: nothing panics, nothing waits, and what comes out is bounded by
//! what went in.

#![no_main]

use std::io::{ErrorKind, Read, Write};

use hookline_schemas::config::WebSocket;
use hookline_wire::websocket::{Framed, answer};
use libfuzzer_sys::fuzz_target;

/// A stream that has these bytes and takes everything.
struct Memory<'a>(&'a [u8]);

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let settings = WebSocket { message_bytes_max: 1 << 16, ..WebSocket::default() };
    let end = input.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
    let (head, frames) = input.split_at(end);
    if end > 0 {
        drop(answer(head, &settings, &[]));
    }
    let mut framed = Framed::new(Memory(frames), Vec::new(), &settings);
    let (mut buffer, mut total) = ([0u8; 1024], 0);
    loop {
        match framed.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        assert!(total <= frames.len(), "no more MQTT than there were bytes");
    }
});
