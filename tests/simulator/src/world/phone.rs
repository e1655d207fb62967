//! The phone of an account, as its owner uses it.

use super::World;
use super::account::DeviceRef;
use crate::SimulatorError;
use crate::stanza::stream_conflict;

/// A simulated phone: what a person does on it.
#[derive(Clone)]
pub struct Phone {
    world: World,
    number: String,
}

impl Phone {
    pub(crate) fn new(world: World, number: String) -> Self {
        Self { world, number }
    }

    /// Its number, digits only.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Scans the QR code that a client shows; `qr` is the raw text of it. The client is linked a moment later.
    pub fn scan_qr(&self, qr: &str) -> Result<(), SimulatorError> {
        self.world.lock().scan_qr(&self.number, qr)
    }

    /// Types the pairing code that a client shows, with or without a hyphen. Computes for some tenths of a second.
    /// A wrong code is not detected yet: the client is then not linked, and `pairing_code:refused` is counted.
    pub fn enter_code(&self, code: &str) -> Result<(), SimulatorError> {
        self.world.enter_code(&self.number, code)
    }

    /// Removes all linked devices. Each is notified if it is connected, and can never log in again.
    pub fn unlink_devices(&self) {
        let mut state = self.world.lock();
        let Some(account) = state.account_mut(&self.number) else { return };
        for (number, mut device) in std::mem::take(&mut account.devices) {
            device.end(stream_conflict("device_removed"));
            let gone = DeviceRef { phone: self.number.clone(), device: number };
            state.tell_of_device(&gone, device.key_index, false);
        }
    }
}
