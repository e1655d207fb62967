//! Linking by QR code: the code itself carries the secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::SimulatorError;
use crate::world::State;

impl State {
    /// The phone scans what a client shows: `ref,noise key,identity key,secret`, newer clients with a link in front.
    pub(crate) fn scan_qr(&mut self, phone: &str, qr: &str) -> Result<(), SimulatorError> {
        let code = qr.trim();
        let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
        let fields: Vec<&str> = code.split(',').collect();
        let [reference, noise_key, identity_key, secret, ..] = fields[..] else {
            return Err(SimulatorError::BadQr("fewer than four fields"));
        };
        let decode = |field: &str| STANDARD.decode(field).map_err(|_| SimulatorError::BadQr("a field is not base64"));
        let (noise_key, identity_key, secret) = (decode(noise_key)?, decode(identity_key)?, decode(secret)?);

        let shown = self.links.iter().find(|(_, link)| link.refs.iter().any(|shown| shown == reference));
        let (connection, link) = shown.ok_or(SimulatorError::UnknownQr)?;
        if link.noise_key[..] != noise_key || link.keys.identity != identity_key {
            return Err(SimulatorError::BadQr("the keys are not those of the client that shows it"));
        }
        self.accept(phone, *connection, &secret)
    }
}
