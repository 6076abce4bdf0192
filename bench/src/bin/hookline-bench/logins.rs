//! Logins: how many a second, and how soon.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookline_mqtt::Version;
use hookline_mqtt::client::{Client, Options};

/// Clients that log in.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    pub(crate) address: SocketAddr,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) clients: usize,
    /// At a time.
    pub(crate) concurrent: usize,
}

/// Logs everybody in, and prints what came of it.
pub(crate) fn run(logins: &Logins) {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let one_after_the_other = || {
        let mut took = Vec::new();
        let mut refused = 0usize;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= logins.clients {
                return (took, refused);
            }
            let mut options = Options { timeout: Duration::from_secs(60), ..Options::new(&format!("login-{number}")).version(Version::V5) };
            options.connect.username.clone_from(&logins.username);
            options.connect.password = logins.password.clone().map(String::into_bytes);
            let began = Instant::now();
            match Client::connect(logins.address, &options) {
                Ok(_) => took.push(began.elapsed()),
                Err(_) => refused += 1,
            }
        }
    };
    let (mut took, refused) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..logins.concurrent).map(|_| scope.spawn(one_after_the_other)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client ends well")).fold(
            (Vec::new(), 0),
            |(mut all, refused), (took, more)| {
                all.extend(took);
                (all, refused + more)
            },
        )
    });
    let elapsed = began.elapsed();
    took.sort_unstable();
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1))).copied().unwrap_or_default();
    println!(
        "{} logins in {elapsed:.1?}: {:.0} a second; p50 {:.1?}, p99 {:.1?}, longest {:.1?}; {refused} refused",
        took.len(),
        took.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
