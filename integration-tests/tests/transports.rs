//! TLS with client certificates, names and new files; WebSocket in any framing; the PROXY protocol; mountpoints, access rules.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::certificates::Certificates;
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Error, Options};
use hookline_mqtt::packet::Packet;
use hookline_mqtt::{QoS, ReasonCode, Version, decode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::{Message, WebSocket};

const SOON: Duration = Duration::from_secs(5);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn connect_packet(id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    v5(id).connect.encode(&mut out);
    out
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(SOON)).expect("set");
    stream
}

/// Reads a CONNACK from any stream.
fn connack(stream: &mut impl Read) -> std::io::Result<ReasonCode> {
    let (mut input, mut bytes) = (Vec::new(), [0u8; 1024]);
    loop {
        if let Ok(Some((Packet::ConnAck(ack), _))) = decode(&input, Version::V5, 1 << 20) {
            return Ok(ack.reason);
        }
        match stream.read(&mut bytes)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => input.extend_from_slice(&bytes[..count]),
        }
    }
}

fn tls(
    address: SocketAddr,
    name: &str,
    roots: &std::path::Path,
    identity: Option<(&std::path::Path, &std::path::Path)>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).expect("readable") {
        store.add(certificate.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(store);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = CertificateDer::pem_file_iter(cert).expect("readable").map(|c| c.expect("PEM")).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).expect("a key")).expect("an identity")
        }
    };
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).expect("a name")).expect("a client");
    StreamOwned::new(connection, tcp(address))
}

#[test]
fn client_certificates_are_asked_for_and_name_the_client() {
    let folder = folder();
    let certificates = Certificates::make(folder.path());
    let config = format!(
        "[listeners.tls.default]\nbind = \"127.0.0.1:0\"\nzone = \"devices\"\n[listeners.tls.default.tls]\n{}client_ca = \"{}\"\nclient_auth = \"required\"\n[zones.devices.mqtt]\npeer_cert_as_client_id = \"cn\"\n[listeners.tcp.default]\nmountpoint = \"\"\n",
        certificates.toml(),
        certificates.ca.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let address = broker.address_of("tls.default");
    let mut watcher = broker.connect(&v5("watcher"));
    watcher.subscribe(&[("$SYS/brokers/+/clients/device-7/connected", QoS::AtMostOnce)]).expect("subscribed");
    let mut stranger = tls(address, "localhost", &certificates.ca, None);
    let refused = stranger.write_all(&connect_packet("x")).and_then(|()| connack(&mut stranger).map(drop));
    assert!(refused.is_err(), "without a certificate");
    let mut device = tls(address, "localhost", &certificates.ca, Some((&certificates.client, &certificates.client_key)));
    device.write_all(&connect_packet("any name")).expect("written");
    assert_eq!(connack(&mut device).expect("answered"), ReasonCode::Success);
    assert!(watcher.receive(SOON).expect("holds").is_some(), "it is known by the name in its certificate");
}

#[test]
fn names_choose_the_certificate_and_new_files_are_used_without_a_restart() {
    let folder = folder();
    let (first, other) = (folder.path().join("first"), folder.path().join("other"));
    std::fs::create_dir_all(&first).and_then(|()| std::fs::create_dir_all(&other)).expect("folders");
    let named = folder.path().join("named");
    std::fs::create_dir_all(&named).expect("a folder");
    let named = Certificates::make_for(&named, &["*.example.com"]);
    let (first, other) = (Certificates::make(&first), Certificates::make(&other));
    let more = format!("more = [{{ cert = \"{}\", key = \"{}\" }}]\n", named.server.display(), named.server_key.display());
    let config = format!("[listeners.tls.default]\nbind = \"127.0.0.1:0\"\n[listeners.tls.default.tls]\n{}{more}", first.toml());
    let broker = Broker::start(folder.path(), &config);
    let address = broker.address_of("tls.default");
    let works = |roots: &std::path::Path| {
        let mut stream = tls(address, "localhost", roots, None);
        stream.write_all(&connect_packet("c")).and_then(|()| connack(&mut stream)).is_ok()
    };
    assert!(works(&first.ca) && !works(&other.ca));
    let asks_for = |name: &str| {
        let mut stream = tls(address, name, &named.ca, None);
        stream.write_all(&connect_packet("named")).and_then(|()| connack(&mut stream)).is_ok()
    };
    assert!(asks_for("mqtt.example.com") && !asks_for("mqtt.example.org") && !asks_for("localhost"), "the one whose names fit is shown");
    let mut kept = tls(address, "localhost", &first.ca, None);
    kept.write_all(&connect_packet("kept")).expect("written");
    connack(&mut kept).expect("answered");
    // Half a file changes nothing.
    std::fs::write(&first.server, "-----BEGIN CERTIFICATE-----\nMIIB").expect("written");
    eventually("the broken file is told", Duration::from_secs(20), || broker.log().contains("cannot be used").then_some(()));
    assert!(works(&first.ca), "the certificate before is in use");
    std::fs::copy(&other.server_key, &first.server_key).and_then(|_| std::fs::copy(&other.server, &first.server)).expect("copied");
    eventually("the new certificate is in use", Duration::from_secs(20), || works(&other.ca).then_some(()));
    kept.write_all(&hookline_mqtt::packet::PINGREQ).expect("written");
    let mut answer = [0u8; 2];
    kept.read_exact(&mut answer).expect("connections go on");
    assert_eq!(answer, hookline_mqtt::packet::PINGRESP);
}

fn websocket(address: SocketAddr) -> WebSocket<TcpStream> {
    let request = tungstenite::http::Request::builder()
        .uri(format!("ws://{address}/mqtt"))
        .header("Host", address.to_string())
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", tungstenite::handshake::client::generate_key())
        .header("Sec-WebSocket-Protocol", "mqtt")
        .body(())
        .expect("a request");
    tungstenite::client(request, tcp(address)).expect("upgraded").0
}

/// Reads frames until `count` packets have come; the first bytes of the packets.
fn packets(socket: &mut WebSocket<TcpStream>, count: usize) -> Vec<u8> {
    let (mut input, mut firsts) = (Vec::new(), Vec::new());
    while firsts.len() < count {
        if let Ok(Some((_, length))) = decode(&input, Version::V5, 1 << 20) {
            firsts.push(input[0]);
            input.drain(..length);
            continue;
        }
        match socket.read().expect("holds") {
            Message::Binary(bytes) => input.extend_from_slice(&bytes),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("not binary: {other:?}"),
        }
    }
    firsts
}

#[test]
fn mqtt_packets_and_websocket_frames_need_not_begin_together() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "[listeners.ws.default]\nbind = \"127.0.0.1:0\"\n");
    let address = broker.address_of("ws.default");
    // One byte a frame.
    let mut slow = websocket(address);
    for byte in connect_packet("slow") {
        slow.send(Message::binary(vec![byte])).expect("sent");
    }
    assert_eq!(packets(&mut slow, 1), [0x20]);
    // All in one frame, with a control frame between the halves of a message.
    let mut fast = websocket(address);
    let all = [connect_packet("fast"), vec![0xC0, 0], vec![0xC0, 0]].concat();
    let (first, second) = all.split_at(5);
    let frame = |bytes: &[u8], opcode, is_final| {
        let mut frame = Frame::message(bytes.to_vec(), OpCode::Data(opcode), is_final);
        let header: &mut FrameHeader = frame.header_mut();
        header.mask = Some([1, 2, 3, 4]);
        Message::Frame(frame)
    };
    fast.send(frame(first, Data::Binary, false)).expect("sent");
    fast.send(Message::Ping(vec![7].into())).expect("sent");
    fast.send(frame(second, Data::Continue, true)).expect("sent");
    assert_eq!(packets(&mut fast, 3), [0x20, 0xD0, 0xD0]);
    // A text message is none of MQTT.
    fast.send(Message::text("hello")).expect("sent");
    let ended = std::iter::from_fn(|| Some(fast.read())).take(10).any(|read| read.is_err() || matches!(read, Ok(Message::Close(_))));
    assert!(ended);
    // Large messages both ways.
    let mut subscriber = broker.connect(&v5("s"));
    subscriber.subscribe(&[("big", QoS::AtMostOnce)]).expect("subscribed");
    let mut out = Vec::new();
    let publish = hookline_mqtt::packet::Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "big",
        packet_id: 0,
        properties: hookline_mqtt::Properties::default(),
        payload: &vec![7u8; 900_000],
    };
    publish.encode(&mut out, Version::V5);
    for part in out.chunks(70_000) {
        slow.send(Message::binary(part.to_vec())).expect("sent");
    }
    assert_eq!(subscriber.receive(SOON).expect("holds").expect("arrives").payload.len(), 900_000);
}

#[test]
fn the_upgrade_refuses_other_paths_and_missing_subprotocols() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "[listeners.ws.default]\nbind = \"127.0.0.1:0\"\n");
    let address = broker.address_of("ws.default");
    let ask = |path: &str, more: &str| {
        let mut stream = tcp(address);
        let fixed = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write!(stream, "GET {path} HTTP/1.1\r\n{fixed}{more}\r\n").expect("written");
        let mut answer = [0u8; 12];
        stream.read_exact(&mut answer).expect("answered");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(ask("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n"), "101");
    assert_eq!(ask("/mqtt", ""), "400");
    assert_eq!(ask("/", "Sec-WebSocket-Protocol: mqtt\r\n"), "404");
    let mut endless = tcp(address);
    let sent = (0..1000).all(|_| endless.write_all(&[b'x'; 1000]).is_ok());
    let mut rest = Vec::new();
    assert!(!sent || endless.read_to_end(&mut rest).is_err() || rest.is_empty(), "an endless request is cut off");
}

#[test]
fn proxies_say_who_their_client_is_and_only_they_may() {
    let folder = folder();
    let config = "[listeners.tcp.default]\nproxy_protocol = true\nproxy_protocol_from = [\"127.0.0.0/8\"]\naccess = [\"deny 203.0.113.0/24\", \"allow all\"]\n[listeners.tcp.closed]\nbind = \"127.0.0.1:0\"\nproxy_protocol = true\nproxy_protocol_from = [\"10.0.0.0/8\"]\n[listeners.tcp.plain]\nbind = \"127.0.0.1:0\"\n";
    let broker = Broker::start(folder.path(), config);
    let mut watcher = hookline_mqtt::client::Client::connect(broker.address_of("tcp.plain"), &v5("w")).expect("connects");
    watcher.subscribe(&[("$SYS/brokers/+/clients/+/connected", QoS::AtMostOnce)]).expect("subscribed");
    let try_with = |address, header: &[u8], id: &str| {
        let mut stream = tcp(address);
        stream.write_all(&[header, &connect_packet(id)].concat()).and_then(|()| connack(&mut stream))
    };
    let address = broker.address();
    assert_eq!(try_with(address, b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 1883\r\n", "one").expect("answered"), ReasonCode::Success);
    let told = watcher.receive(SOON).expect("holds").expect("arrives");
    assert!(String::from_utf8_lossy(&told.payload).contains("\"ipaddress\":\"192.0.2.9\""), "{told:?}");
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    v2.extend_from_slice(&[192, 0, 2, 10, 198, 51, 100, 2, 0x9c, 0x40, 0x07, 0x5b]);
    assert_eq!(try_with(address, &v2, "two").expect("answered"), ReasonCode::Success);
    assert!(try_with(address, b"PROXY TCP4 203.0.113.5 198.51.100.1 4711 1883\r\n", "banned").is_err(), "the client's own address counts");
    assert!(try_with(address, b"", "none").is_err(), "a header must come");
    assert!(try_with(address, b"PROXY TCP4 300.0.2.9 x y z\r\n", "broken").is_err());
    assert!(try_with(broker.address_of("tcp.closed"), b"PROXY TCP4 192.0.2.9 198.51.100.1 1 2\r\n", "no proxy").is_err());
    assert!(try_with(broker.address_of("tcp.plain"), b"", "plain").is_ok());
}

#[test]
fn a_mountpoint_stands_before_every_topic_and_is_never_seen() {
    let folder = folder();
    let config = "[listeners.tcp.tenant]\nbind = \"127.0.0.1:0\"\nmountpoint = \"tenants/${username}/\"\n";
    let broker = Broker::start(folder.path(), config);
    let at = |name: &str, id: &str| {
        let mut options = v5(id).persistent(100);
        options.connect.username = Some(name.to_owned());
        options
    };
    let address = broker.address_of("tcp.tenant");
    let tenant = |name: &str, id: &str| hookline_mqtt::client::Client::connect(address, &at(name, id));
    let mut outside = broker.connect(&v5("outside"));
    outside.subscribe(&[("#", QoS::AtLeastOnce)]).expect("subscribed");
    let mut a = tenant("a", "client-a").expect("connects");
    let mut b = tenant("b", "client-b").expect("connects");
    for client in [&mut a, &mut b] {
        client.subscribe(&[("t/#", QoS::AtLeastOnce), ("$share/g/s", QoS::AtLeastOnce)]).expect("subscribed");
    }
    a.publish("t/1", b"x", QoS::AtLeastOnce, false).expect("published");
    assert_eq!(outside.receive(SOON).expect("holds").expect("arrives").topic, "tenants/a/t/1");
    assert_eq!(a.receive(SOON).expect("holds").expect("arrives").topic, "t/1");
    assert_eq!(b.receive(Duration::from_millis(300)).expect("holds"), None, "the other tenant sees nothing");
    // The session knows its mountpoint also after a restart.
    a.disconnect().expect("leaves");
    drop((b, outside));
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), config);
    let mut outside = broker.connect(&v5("outside"));
    outside.publish("tenants/a/t/2", b"offline", QoS::AtLeastOnce, false).expect("published");
    outside.publish("t/2", b"not for a", QoS::AtLeastOnce, false).expect("published");
    let mut a = hookline_mqtt::client::Client::connect(broker.address_of("tcp.tenant"), &at("a", "client-a")).expect("connects");
    assert_eq!(a.receive(SOON).expect("holds").expect("arrives").topic, "t/2");
    for name in ["+", "a/b", ""] {
        let wild = hookline_mqtt::client::Client::connect(broker.address_of("tcp.tenant"), &at(name, "wild"));
        assert!(matches!(wild, Err(Error::Refused(ReasonCode::BadUserNameOrPassword))), "\"{name}\" must not lead to others");
    }
}

#[test]
fn addresses_bans_and_connection_limits_are_kept() {
    let folder = folder();
    let config = "[listeners.tcp.closed]\nbind = \"127.0.0.1:0\"\naccess = [\"allow 10.0.0.0/8\", \"deny all\"]\n[listeners.tcp.small]\nbind = \"127.0.0.1:0\"\nconnections_max = 2\n[listeners.tcp.v6]\nbind = \"[::1]:0\"\n[listeners.tcp.slow]\nbind = \"127.0.0.1:0\"\nconnects_per_sec = 10\nzone = \"flap\"\n[zones.flap.mqtt]\nflapping_max = 3\n[[banned]]\nclientid = \"bad\"\n[[banned]]\nusername = \"mallory\"\n";
    let broker = Broker::start(folder.path(), config);
    let connect = |listener: &str, options: &Options| hookline_mqtt::client::Client::connect(broker.address_of(listener), options);
    assert!(connect("tcp.closed", &v5("a")).is_err());
    assert!(connect("tcp.v6", &v5("six")).is_ok());
    let held: Vec<_> = (0..2).map(|n| connect("tcp.small", &v5(&format!("small-{n}"))).expect("connects")).collect();
    assert!(connect("tcp.small", &v5("small-3")).is_err());
    drop(held);
    eventually("places are given back", SOON, || connect("tcp.small", &v5("small-4")).ok().map(drop));
    assert!(matches!(connect("tcp.default", &v5("bad")), Err(Error::Refused(ReasonCode::Banned))));
    let mut mallory = v5("m");
    mallory.connect.username = Some("mallory".into());
    assert!(matches!(connect("tcp.default", &mallory), Err(Error::Refused(ReasonCode::Banned))));
    let begun = Instant::now();
    for n in 0..20 {
        connect("tcp.slow", &v5(&format!("slow-{n}"))).expect("connects, later");
    }
    assert!(begun.elapsed() > Duration::from_millis(700), "10 at once, the others at 10 a second: {:?}", begun.elapsed());
    let flapping = (0..5).map(|_| connect("tcp.slow", &v5("flapping")).is_ok()).collect::<Vec<_>>();
    assert_eq!(flapping, [true, true, true, false, false]);
}
