//! Enhanced authentication (MQTT 5.0, section 4.12): exchanges of more than one step. Pure: bytes in, bytes out.

/// SCRAM-SHA-256 and SCRAM-SHA-512.
pub mod scram;

use std::fmt;

use hookline_mqtt::ReasonCode;
use hookline_schemas::config::Scram as Settings;

use scram::{Hash, Scram, Verifiers};

/// The methods that are served.
#[derive(Debug)]
pub(crate) struct Methods {
    verifiers: Verifiers,
}

/// An exchange under way.
pub(crate) struct Exchange {
    method: &'static str,
    scram: Scram,
}

/// What follows from a client's data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client is to answer to this.
    Continue(Vec<u8>),
    /// It is who it says; the last data is for it to check who we are.
    Accept {
        username: String,
        data: Vec<u8>,
    },
    Refuse(ReasonCode),
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Methods {
    /// Reads the users.
    ///
    /// # Errors
    /// All that are wrong, with their paths.
    pub(crate) fn new(settings: &Settings) -> Result<Methods, Vec<String>> {
        Ok(Methods { verifiers: Verifiers::new(&settings.users)? })
    }

    /// Whether somebody of that name can prove it.
    pub(crate) fn know(&self, username: &str) -> bool {
        self.verifiers.know(username)
    }

    /// Begins an exchange; `None` where the method is not served.
    pub(crate) fn begin(&self, method: &str) -> Option<Exchange> {
        let hash = [Hash::Sha256, Hash::Sha512].into_iter().find(|hash| hash.method() == method)?;
        let verifiers = self.verifiers.of(hash)?;
        Some(Exchange { method: hash.method(), scram: Scram::new(hash, verifiers) })
    }
}

impl Exchange {
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    /// Goes on with what the client has sent.
    pub(crate) fn step(&mut self, data: &[u8]) -> Step {
        self.scram.step(data)
    }
}
