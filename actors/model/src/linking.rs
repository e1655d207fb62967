//! How far the linking of a phone is, and the passkey that WhatsApp may ask for. Never does IO.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use super::Timestamp;

/// How far the linking of a phone is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Linking {
    /// What is waited for.
    pub step: LinkingStep,
    /// When the step is over, and linking begins anew or ends.
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
    /// In the step `passkey_confirmation`: the code that the phone has to show.
    #[schema(required, example = json!(null))]
    pub code: Option<String>,
}

/// What linking waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(example = "qr")]
pub enum LinkingStep {
    /// A phone that scans the QR.
    Qr,
    /// A phone with the pairing code, or one that scans the QR.
    PairingCode,
    /// The answer of the passkey that WhatsApp asks for, or WhatsApp after that.
    Passkey,
    /// A person who compares the code with the phone's, or WhatsApp after that.
    PasskeyConfirmation,
}

/// The answer of a passkey, as WhatsApp gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasskeyAnswer {
    /// The credential that signed.
    pub credential_id: Vec<u8>,
    /// The answer in the form of WebAuthn's `PublicKeyCredential.toJSON()`.
    pub assertion_json: Vec<u8>,
}

/// Shows nothing: whoever has the answer can link a device.
impl fmt::Debug for PasskeyAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasskeyAnswer")
    }
}
