//! The PROXY protocol, versions 1 and 2: what a load balancer says about its client before anything else comes.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

/// The longest header that is read: far above what proxies send, also with their extensions.
pub const HEADER_BYTES_MAX: usize = 2048;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// The client and the address that it connected to; `None` where the proxy speaks for itself (a health check).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// How long the header is, bytes.
    pub length: usize,
}

/// Reads a header from the start of `bytes`: `None` where more bytes are needed.
///
/// # Errors
/// It is no header, or one that is too long.
pub fn parse(bytes: &[u8]) -> Result<Option<Proxied>, &'static str> {
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok((header, length)) => {
            let addresses = header.proxied_address().map(|address| (address.source, address.destination));
            Ok(Some(Proxied { addresses, length }))
        }
        Err(proxy_header::Error::BufferTooShort) if bytes.len() < HEADER_BYTES_MAX => Ok(None),
        Err(proxy_header::Error::BufferTooShort) => Err("the PROXY header is too long"),
        Err(_) => Err("no PROXY header"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_nothing_behind_them() {
        let v1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n\x10\x0c";
        let parsed = parse(v1).expect("valid").expect("whole");
        let (client, server) = parsed.addresses.expect("addresses");
        assert_eq!(
            (client.to_string(), server.to_string(), parsed.length),
            ("192.0.2.1:40000".into(), "198.51.100.2:1883".into(), v1.len() - 2)
        );
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        v2.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0x07, 0x5b]);
        let whole = v2.len();
        v2.push(0x10);
        let parsed = parse(&v2).expect("valid").expect("whole");
        assert_eq!((parsed.addresses.map(|(client, _)| client.to_string()), parsed.length), (Some("192.0.2.1:40000".into()), whole));
        for cut in 0..whole {
            assert_eq!(parse(&v2[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_and_bounded() {
        assert!(parse(b"\x10\x0c\x00\x04MQTT").is_err());
        assert!(parse(b"GET / HTTP/1.1\r\n").is_err());
        assert!(parse(&[b"PROXY TCP4 ".to_vec(), vec![b'1'; 4000]].concat()).is_err());
        let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
        long.resize(HEADER_BYTES_MAX, 0);
        assert!(parse(&long).is_err(), "65,535 bytes of extensions");
    }
}
