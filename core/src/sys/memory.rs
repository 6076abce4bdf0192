//! The memory of this process, and the bound above which the broker refuses and sheds.

/// The bound.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: u64,
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
    pub(super) is_high: bool,
}

/// Of the machine's memory, where nothing else is said, in percent.
const MEMORY_PERCENT: u64 = 80;

impl Memory {
    /// `bytes_max` 0: what the machine or the container has decides.
    pub(super) fn new(bytes_max: u64) -> Memory {
        let of_machine = || memory_limit().map_or(u64::MAX, |limit| limit / 100 * MEMORY_PERCENT);
        Memory { bytes_max: if bytes_max == 0 { of_machine() } else { bytes_max } }
    }

    /// Looks how much there is; `None` where that cannot be known.
    pub(super) fn look(&self, was_high: bool) -> Option<Look> {
        let bytes = resident_bytes()?;
        Some(Look { bytes, bytes_max: self.bytes_max, is_high: self.is_high(bytes, was_high) })
    }

    fn is_high(&self, bytes: u64, was_high: bool) -> bool {
        // With some room between the two, so that it does not change at each look.
        bytes > if was_high { self.bytes_max / 100 * 95 } else { self.bytes_max }
    }
}

/// The memory of this process, bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What the machine or the container has, bytes; the smaller of both.
fn memory_limit() -> Option<u64> {
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let info = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = info.as_deref().and_then(|info| info.lines().find_map(|line| line.strip_prefix("MemTotal:")));
    let machine = machine.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib * 1024);
    [container, machine].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(memory_limit().is_some_and(|bytes| bytes > 1 << 20));
        assert!(Memory::new(1).look(false).is_some_and(|look| look.is_high && look.bytes_max == 1));
        assert!(Memory::new(0).look(false).is_some_and(|look| !look.is_high));
    }

    #[test]
    fn the_bound_is_left_with_some_room() {
        let memory = Memory::new(1000);
        assert_eq!([1000, 1001].map(|bytes| memory.is_high(bytes, false)), [false, true]);
        assert_eq!([950, 951].map(|bytes| memory.is_high(bytes, true)), [false, true]);
    }
}
