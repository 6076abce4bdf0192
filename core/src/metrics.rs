//! Counters. Each worker has its own, so that counting costs no shared cache line; readers add them up.

use std::sync::atomic::{AtomicU64, Ordering};

use hookline_schemas::event::DropReason;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            dropped: [AtomicU64; DropReason::ALL.len()],
        }

        /// The sums of all workers, at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
            /// Drops by reason, in the order of [`DropReason::ALL`].
            pub dropped: [u64; DropReason::ALL.len()],
        }

        impl Totals {
            /// Adds the counters of one worker.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.load(Ordering::Relaxed);)*
                for (sum, counter) in self.dropped.iter_mut().zip(&counters.dropped) {
                    *sum += counter.load(Ordering::Relaxed);
                }
            }
        }
    };
}

counters! {
    /// Connections that were served.
    connected;
    /// Connections that ended.
    disconnected;
    /// PUBLISH packets that came in.
    received;
    /// PUBLISH packets that went out.
    sent;
    /// Publishes that were refused instead of acknowledged.
    refused;
    /// Acknowledgements that waited for the store.
    committed;
    /// Packets that broke the protocol.
    protocol_errors;
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        // Only the worker itself writes: a plain add is enough.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn count_drop(&self, reason: DropReason) {
        Counters::count(&self.dropped[reason as usize]);
    }
}
