//! What the machine gives: open files, the time of day, the disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hookline_schemas::config::{Config, DurabilityLevel};

use super::Finding;
use crate::command::report::size;

/// Files beside the connections: tables and logs of the store, sinks, the API.
const OTHER_FILES: u64 = 1000;
/// How far the clock may be behind what was written.
const CLOCK_SLACK: Duration = Duration::from_secs(5);
/// The beginning of 2025, seconds since the Unix epoch: no clock that was ever set is before it.
const SANE_SECS: u64 = 1_735_689_600;
/// How often the disk is synced to measure it.
const SYNCS: usize = 20;
/// What is written before each.
const SYNC_BYTES: usize = 4096;
/// A sync that takes longer makes publishers wait noticeably.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// How many files a process may have open: the bound in force, and how far it can be raised.
fn open_files(process: Option<u32>) -> Option<(u64, u64)> {
    let process = process.map_or_else(|| "self".to_owned(), |process| process.to_string());
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let number = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() };
    let mut fields = line.split_whitespace().skip(3);
    Some((number(fields.next()?)?, number(fields.next()?)?))
}

pub(super) fn limits(config: &Config, process: Option<u32>) -> Vec<Finding> {
    const CHECK: &str = "limits";
    let Some((soft, hard)) = open_files(process).or_else(|| open_files(None)) else {
        return vec![Finding::warning(CHECK, "how many files may be open cannot be seen", "look at \"ulimit -n\" yourself")];
    };
    let allowed: u64 = config.listeners.enabled().map(|(.., listener)| listener.connections_max as u64).sum();
    let room = soft.saturating_sub(OTHER_FILES);
    let whose = if process.is_some() { "the broker" } else { "a broker started from here" };
    if room >= allowed {
        return vec![Finding::ok(CHECK, format!("{whose} may have {soft} files open, enough for {allowed} connections"))];
    }
    let how = format!("LimitNOFILE={} in its unit, or \"ulimit -n\"", allowed + OTHER_FILES);
    let raise = if hard > soft { format!("{how} (up to {hard} without root)") } else { how };
    let message = format!(
        "{whose} may have {soft} files open: about {room} connections, where its listeners allow {allowed}; what comes beyond is turned away"
    );
    let advice = format!("raise it: {raise}; or set connections_max of the listeners to what comes");
    vec![Finding::warning(CHECK, message, advice)]
}

pub(super) fn clock(newest_at_ms: Option<u64>) -> Vec<Finding> {
    const CHECK: &str = "clock";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if now.as_secs() < SANE_SECS {
        return vec![Finding::problem(
            CHECK,
            format!("it says {}", text(now)),
            "set it (chrony, systemd-timesyncd) before the broker starts",
        )];
    }
    let ahead = newest_at_ms.and_then(|newest| Duration::from_millis(newest).checked_sub(now));
    vec![match ahead {
        Some(ahead) if ahead > CLOCK_SLACK => Finding::problem(
            CHECK,
            format!("it says {}, and the newest record in the store is {} s ahead: the clock went back", text(now), ahead.as_secs()),
            "set it right: expiries, delayed messages and windows of rules go by it",
        ),
        _ => Finding::ok(CHECK, format!("it says {}, and nothing in the store is newer", text(now))),
    }]
}

fn text(since_epoch: Duration) -> String {
    let secs = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs).map_or_else(|_| format!("{secs} s"), |time| time.to_string())
}

/// A folder's next parent that is there.
fn nearest(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// What the data folder lies on.
pub(super) fn disk(data_dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let folder = nearest(data_dir);
    let mut findings = Vec::new();
    if let Ok(system) = rustix::fs::statfs(&folder) {
        // The numbers are those of linux/magic.h.
        findings.push(match system.f_type as u64 & 0xffff_ffff {
            0x0102_1994 | 0x8584_58f6 => Finding::warning(
                CHECK,
                format!("{} is in memory (tmpfs): all that is kept is gone with the machine", folder.display()),
                "put the data folder on a disk with --data or node.data_dir",
            ),
            kind @ (0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b | 0x0102_1997 | 0x00c3_6400) => Finding::warning(
                CHECK,
                format!(
                    "{} is on the network ({}): each commit waits for it, and not every one keeps what was synced",
                    folder.display(),
                    network(kind)
                ),
                "put the data folder on a disk of this machine, or on a volume of blocks",
            ),
            kind => Finding::ok(CHECK, format!("{} is on {}", folder.display(), local(kind))),
        });
    }
    findings.push(match sync_time(&folder) {
        Ok((median, longest)) => {
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            let message = format!("a sync of {} bytes takes {:.2} ms, the longest of {SYNCS} {:.2} ms", SYNC_BYTES, ms(median), ms(longest));
            if median > SLOW_SYNC {
                let advice = "an acknowledgement waits for a sync: use a faster disk (NVMe, with protection against power loss); many clients share one sync, so throughput suffers less";
                Finding::warning(CHECK, message, advice)
            } else {
                Finding::ok(CHECK, message)
            }
        }
        Err(error) => Finding::problem(
            CHECK,
            format!("cannot write into {}: {error}", folder.display()),
            "make it writable for the broker's user, or name another folder with --data",
        ),
    });
    findings
}

const fn network(kind: u64) -> &'static str {
    match kind {
        0x6969 => "NFS",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        _ => "SMB",
    }
}

const fn local(kind: u64) -> &'static str {
    match kind {
        0xef53 => "ext4",
        0x5846_5342 => "XFS",
        0x9123_683e => "Btrfs",
        0x2fc1_2fc1 => "ZFS",
        0x794c_7630 => "an overlay (a container's own layer: a volume outlives the container)",
        0x6573_5546 => "FUSE",
        _ => "a local file system",
    }
}

/// How long a sync takes: the median of some, and the longest.
fn sync_time(folder: &Path) -> std::io::Result<(Duration, Duration)> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[b'x'; SYNC_BYTES])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok((times[SYNCS / 2], times[SYNCS - 1]))
}

/// How much room there is.
pub(super) fn space(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "space";
    let folder = nearest(&config.node.data_dir);
    let Ok(disk) = rustix::fs::statvfs(&folder) else {
        return vec![Finding::warning(CHECK, format!("how much room {} has cannot be seen", folder.display()), "look at \"df\" yourself")];
    };
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let message = format!("{} of {} are free", size(free), size(all));
    let least = config.store.free_bytes_min + config.store.reserve_bytes;
    let mut findings = vec![if free <= config.store.free_bytes_min {
        let advice = "free some: below store.free_bytes_min publishers are refused, and what waits is still delivered";
        Finding::problem(CHECK, message, advice)
    } else if free < least.max(1 << 30) || free < all / 20 {
        Finding::warning(CHECK, message, "what waits for a sink that is away grows here: free some, or bound it with store.bytes_max")
    } else if disk.f_files > 0 && disk.f_favail < 10_000 {
        Finding::warning(CHECK, format!("{message}, but only {} files can be made", disk.f_favail), "remove small files")
    } else {
        Finding::ok(CHECK, message)
    }];
    if config.store.level != DurabilityLevel::Disk {
        let level = format!("{:?}", config.store.level).to_lowercase();
        let advice = "a power cut may take acknowledged messages; store.level = \"disk\" keeps them";
        findings.push(Finding::warning("durability", format!("store.level is \"{level}\""), advice));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_went_back_is_a_problem() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        assert_eq!(clock(Some(now - 1000))[0].verdict, Verdict::Ok);
        assert_eq!(clock(None)[0].verdict, Verdict::Ok);
        let back = &clock(Some(now + 3_600_000))[0];
        assert!(back.verdict == Verdict::Problem && back.message.contains("the clock went back"), "{back:?}");
    }

    #[test]
    fn limits_count_the_connections_of_all_listeners() {
        let mut config = Config::default();
        let listener = config.listeners.tcp.get_mut("default").expect("the default one");
        listener.connections_max = 1;
        let (soft, _) = open_files(None).expect("Linux tells");
        assert_eq!(limits(&config, None)[0].verdict, if soft > OTHER_FILES { Verdict::Ok } else { Verdict::Warning });
        config.listeners.tcp.get_mut("default").expect("the default one").connections_max = usize::MAX / 4;
        assert_eq!(limits(&config, None)[0].verdict, Verdict::Warning);
    }
}
