//! A connection of the load generator: what a turn has to say leaves in one write, and packets are read in place.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use hookline_mqtt::packet::{Connect, Subscribe, SubscribeFilter, SubscriptionOptions};
use hookline_mqtt::{Properties, QoS, Version};

/// The longest wait for an answer while a connection is made.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Filters of one SUBSCRIBE: the length of its SUBACK has one byte.
pub(crate) const FILTERS_MAX: usize = 100;

/// A connection, MQTT 3.1.1.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    output: Vec<u8>,
    /// How much of `output` the socket has taken.
    written: usize,
    /// A packet that has not come whole.
    rest: Vec<u8>,
}

impl Link {
    /// Connects and sends the CONNECT, without waiting for the answer.
    pub(crate) fn open(address: SocketAddr, connect: &Connect) -> anyhow::Result<Link> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut output = Vec::new();
        connect.encode(&mut output);
        let mut link = Link { stream, output, written: 0, rest: Vec::new() };
        link.flush()?;
        Ok(link)
    }

    /// Waits for the CONNACK: whether the broker had a session.
    pub(crate) fn accepted(&mut self) -> anyhow::Result<bool> {
        let mut connack = [0; 4];
        self.stream.read_exact(&mut connack).context("the broker closed a connection instead of accepting it")?;
        match connack {
            [0x20, 2, flags, 0] => Ok(flags & 1 == 1),
            [0x20, 2, _, code] => bail!("the broker refused a connection: code {code}"),
            other => bail!("the broker answered a CONNECT with {other:02x?}"),
        }
    }

    /// Connects and waits for the CONNACK.
    pub(crate) fn connect(address: SocketAddr, connect: &Connect) -> anyhow::Result<Link> {
        let mut link = Link::open(address, connect)?;
        link.accepted()?;
        Ok(link)
    }

    /// Sends a SUBSCRIBE, without waiting for the answer.
    pub(crate) fn ask_for(&mut self, filters: &[&str], qos: QoS) -> io::Result<()> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let filters = filters.iter().map(|filter| SubscribeFilter { filter: (*filter).to_owned(), options }).collect();
        Subscribe { packet_id: 1, properties: Properties::default(), filters }.encode(&mut self.output, Version::V311);
        self.flush().map(drop)
    }

    /// Waits for the SUBACK of so many filters, at most [`FILTERS_MAX`].
    pub(crate) fn subscribed(&mut self, filters: usize) -> anyhow::Result<()> {
        let mut suback = [0; 4 + FILTERS_MAX];
        let suback = &mut suback[..4 + filters];
        self.stream.read_exact(suback).context("the broker closed a connection instead of answering a SUBSCRIBE")?;
        if suback[0] != 0x90 || suback[4..].contains(&0x80) {
            bail!("the broker refused a subscription");
        }
        Ok(())
    }

    /// From here on no call waits.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What the next [`Link::flush`] writes.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// One write; whether all has left. What the socket does not take stays.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if self.written == self.output.len() {
            return Ok(true);
        }
        match self.stream.write(&self.output[self.written..]) {
            Ok(count) => self.written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        Ok(self.output.is_empty())
    }

    /// One read, of a link that waits: as [`Link::read`], and silence of the broker is an error.
    pub(crate) fn wait(&mut self, buffer: &mut [u8], packet: impl FnMut(u8, &[u8], &mut Vec<u8>)) -> anyhow::Result<()> {
        if self.read(buffer, packet)? {
            return Ok(());
        }
        bail!("the broker was silent for {TIMEOUT:?}")
    }

    /// One read, whether something was there: hands each packet that is whole over, as its first byte and its body, with the output for the answer.
    pub(crate) fn read(&mut self, buffer: &mut [u8], mut packet: impl FnMut(u8, &[u8], &mut Vec<u8>)) -> anyhow::Result<bool> {
        let had = self.rest.len();
        if had >= buffer.len() {
            bail!("the broker sent a packet of more than {} bytes", buffer.len());
        }
        buffer[..had].copy_from_slice(&self.rest);
        let count = match self.stream.read(&mut buffer[had..]) {
            Ok(0) => bail!("the broker closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let input = &buffer[..had + count];
        let mut at = 0;
        while let Some((length, header)) = hookline_mqtt::read::varint(input.get(at + 1..).unwrap_or_default())? {
            let body = at + 1 + header;
            let Some(bytes) = input.get(body..body + length as usize) else { break };
            packet(input[at], bytes, &mut self.output);
            at = body + length as usize;
        }
        self.rest.clear();
        self.rest.extend_from_slice(&input[at..]);
        Ok(true)
    }
}
