//! The devices of the demo: a thread and a real connection for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{QoS, Version};
use serde_json::json;

/// Where pumps are.
const SITES: [&str; 3] = ["north", "south", "harbour"];
/// Between two readings of a pump.
const READING: Duration = Duration::from_secs(1);
/// How long somebody is there who goes away, and how long away.
const STAY: Duration = Duration::from_secs(25);
const AWAY: Duration = Duration::from_secs(10);
/// The device that misbehaves.
const TROUBLE: usize = 7;
/// Stack of a thread, bytes: they do little.
const STACK_BYTES: usize = 256 << 10;

/// All of them.
pub(super) struct Fleet(Vec<JoinHandle<()>>);

impl Fleet {
    pub(super) fn start(broker: SocketAddr, count: usize, stop: &Arc<AtomicBool>) -> Fleet {
        let mut threads = Vec::with_capacity(count + 1);
        let mut start = |name: String, run: Box<dyn FnOnce() + Send>| match std::thread::Builder::new()
            .name(name.clone())
            .stack_size(STACK_BYTES)
            .spawn(run)
        {
            Ok(thread) => threads.push(thread),
            Err(error) => eprintln!("hookline: {name} cannot be started: {error}"),
        };
        for number in 1..=count {
            let stop = Arc::clone(stop);
            start(format!("pump-{number:02}"), Box::new(move || again_and_again(&stop, || pump(broker, number, &stop))));
        }
        let stop = Arc::clone(stop);
        start("room".into(), Box::new(move || again_and_again(&stop, || room(broker, &stop))));
        Fleet(threads)
    }

    /// Waits until all have heard that they are to stop.
    pub(super) fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                eprintln!("hookline: a device of the demo has panicked");
            }
        }
    }
}

/// Runs a life, and the next one when it is over.
fn again_and_again(stop: &AtomicBool, life: impl Fn() -> Result<(), Error>) {
    while !stop.load(Ordering::Relaxed) {
        // A device that fails comes again: so would a real one.
        drop(life());
        pause(stop, AWAY);
    }
}

/// Waits; `false`: it is to stop.
fn pause(stop: &AtomicBool, wait: Duration) -> bool {
    let end = Instant::now() + wait;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100).min(end.saturating_duration_since(Instant::now())));
    }
    !stop.load(Ordering::Relaxed)
}

fn pump(broker: SocketAddr, number: usize, stop: &AtomicBool) -> Result<(), Error> {
    let name = format!("pump-{number:02}");
    let goes_away = number % 10 == 3;
    // Not all in the same moment.
    if !pause(stop, READING.mul_f64((number % 20) as f64 / 20.0)) {
        return Ok(());
    }
    let mut client = Client::connect(broker, &Options::new(&name).version(Version::V5))?;
    let topic = format!("plant/{}/{name}/telemetry", SITES[number % SITES.len()]);
    let since = Instant::now();
    let mut readings = 0u32;
    loop {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let celsius = 60.0 + 25.0 * (elapsed / 60.0 + number as f64).sin() + (number % 8) as f64;
        readings += 1;
        let celsius =
            if number == TROUBLE && readings.is_multiple_of(5) { json!("hot") } else { json!((celsius * 10.0).round() / 10.0 + 0.05) };
        let reading = json!({ "celsius": celsius, "bar": (30.0 + (elapsed / 20.0).cos()).round() / 10.0, "reading": readings });
        client.publish(&topic, reading.to_string().as_bytes(), QoS::AtLeastOnce, false)?;
        if number == TROUBLE {
            client.publish(&format!("debug/{name}"), b"still here", QoS::AtMostOnce, false)?;
        }
        if goes_away && since.elapsed() > STAY + READING * (number / 5) as u32 {
            // Without a DISCONNECT.
            return Ok(());
        }
        if !pause(stop, READING) {
            return client.disconnect();
        }
    }
}

/// Reads everything, in a session that the broker keeps while it is away.
fn room(broker: SocketAddr, stop: &AtomicBool) -> Result<(), Error> {
    let mut client = Client::connect(broker, &Options::new("room").version(Version::V5).persistent(3600))?;
    client.subscribe(&[("plant/#", QoS::AtLeastOnce), ("alarms/#", QoS::AtLeastOnce)])?;
    let since = Instant::now();
    while since.elapsed() < STAY && !stop.load(Ordering::Relaxed) {
        client.receive(Duration::from_millis(200))?;
    }
    client.disconnect()
}
