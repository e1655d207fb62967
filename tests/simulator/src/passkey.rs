//! Passkeys: the one that an account has, how it signs, and how WhatsApp's server checks that.
//!
//! The checks are those of WebAuthn Level 3, section 7.2, for the relying party `whatsapp.com` on the page of
//! <https://web.whatsapp.com>; ES256 only. What WhatsApp asks for is as others have published it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt as _;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::SimulatorError;
use crate::signal::random;

const RP_ID: &str = "whatsapp.com";
const ORIGIN: &str = "https://web.whatsapp.com";
/// Somebody is there, and was recognised.
const PRESENT_AND_VERIFIED: u8 = 0x01 | 0x04;
/// The bytes before a counter in an authenticator's data: the relying party's hash and the flags.
const FLAGS_AT: usize = 32;
const DATA_BYTES_MIN: usize = 37;

/// A passkey in software.
pub struct SoftwarePasskey {
    credential_id: Vec<u8>,
    key: EcdsaKeyPair,
}

impl SoftwarePasskey {
    /// A new passkey.
    ///
    /// # Errors
    /// There is no key.
    pub fn generate() -> Result<Self, SimulatorError> {
        let (system, mut credential_id) = (SystemRandom::new(), vec![0; 16]);
        random().fill(&mut credential_id[..]);
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let no_key = |_| SimulatorError::crypto("no key");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &system).map_err(no_key)?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &system)
            .map_err(|_| SimulatorError::crypto("no key"))?;
        Ok(Self { credential_id, key })
    }

    /// What WhatsApp keeps of it.
    #[must_use]
    pub fn credential(&self) -> Credential {
        Credential { id: self.credential_id.clone(), public_key: self.key.public_key().as_ref().to_vec() }
    }

    /// Answers `PublicKeyCredentialRequestOptions`, as a browser on WhatsApp's page does: the text of
    /// `PublicKeyCredential.toJSON()`.
    ///
    /// # Errors
    /// The options cannot be read.
    pub fn sign(&self, options: &str) -> Result<String, SimulatorError> {
        let options: Value = serde_json::from_str(options).map_err(SimulatorError::protocol)?;
        let client_data = json!({
            "type": "webauthn.get", "challenge": options["challenge"], "origin": ORIGIN, "crossOrigin": false,
        })
        .to_string();
        let mut data = digest(&SHA256, RP_ID.as_bytes()).as_ref().to_vec();
        data.push(PRESENT_AND_VERIFIED);
        data.extend(0_u32.to_be_bytes());
        let signed = [&data[..], digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
        let signature =
            self.key.sign(&SystemRandom::new(), &signed).map_err(|_| SimulatorError::crypto("not signed"))?;
        let (id, encode) = (URL_SAFE_NO_PAD.encode(&self.credential_id), |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes));
        let answer = json!({
            "id": id, "rawId": id, "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client_data.as_bytes()), "authenticatorData": encode(&data),
                "signature": encode(signature.as_ref()), "userHandle": encode(b"owner"),
            },
        });
        Ok(answer.to_string())
    }
}

/// What WhatsApp keeps of a passkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The credential's id.
    pub id: Vec<u8>,
    /// Its point on P-256, uncompressed: 65 bytes.
    pub public_key: Vec<u8>,
}

/// What happens once the passkey has signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasskeyManner {
    /// The phone shows a code, and links the device once that was confirmed.
    #[default]
    Links,
    /// The phone never goes on after the answer.
    StaysSilent,
    /// The phone's owner says no: nothing comes after the code was confirmed.
    Declines,
    /// The phone goes on with something that cannot be read.
    Babbles,
}

/// The passkey that an account asks for when a device is linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountPasskey {
    pub(crate) credential: Credential,
    pub(crate) manner: PasskeyManner,
}

/// The options for a challenge.
pub(crate) fn options(challenge: &str) -> String {
    json!({
        "challenge": challenge, "timeout": 600_000, "rpId": RP_ID, "allowCredentials": [],
        "userVerification": "required", "extensions": { "uvm": true },
    })
    .to_string()
}

/// Checks an answer; the text of an error is for the log.
pub(crate) fn check(
    assertion: &[u8],
    credential_id: &[u8],
    challenge: &str,
    credential: &Credential,
) -> Result<(), &'static str> {
    let json: Value = serde_json::from_slice(assertion).map_err(|_| "no JSON")?;
    let field = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().unwrap_or_default()).map_err(|_| "not base64url");
    let ensure = |is_so: bool, what| if is_so { Ok(()) } else { Err(what) };
    let response = &json["response"];
    let (client_data, data) = (field(&response["clientDataJSON"])?, field(&response["authenticatorData"])?);
    let told: Value = serde_json::from_slice(&client_data).map_err(|_| "no client data")?;
    ensure(json["type"] == "public-key" && json["id"] == json["rawId"], "another type or id")?;
    ensure(field(&json["rawId"])? == credential.id && credential_id == credential.id, "another credential")?;
    ensure(told["type"] == "webauthn.get" && told["origin"] == ORIGIN, "another type or page")?;
    ensure(told["crossOrigin"] != true, "from a page in another one")?;
    ensure(told["challenge"] == challenge, "another challenge")?;
    ensure(data.len() >= DATA_BYTES_MIN, "too little data")?;
    ensure(data[..FLAGS_AT] == *digest(&SHA256, RP_ID.as_bytes()).as_ref(), "another relying party")?;
    ensure(data[FLAGS_AT] & PRESENT_AND_VERIFIED == PRESENT_AND_VERIFIED, "nobody was recognised")?;
    let signed = [&data[..], digest(&SHA256, &client_data).as_ref()].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &credential.public_key);
    key.verify(&signed, &field(&response["signature"])?).map_err(|_| "another signature")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_accounts_own_passkey_answers_only_this_request() {
        let (passkey, other) = (SoftwarePasskey::generate().unwrap(), SoftwarePasskey::generate().unwrap());
        let answer = passkey.sign(&options("Y2hhbGxlbmdl")).unwrap();
        let check = |answer: &str, challenge, credential: &Credential| {
            check(answer.as_bytes(), &credential.id, challenge, credential)
        };
        let own = passkey.credential();
        assert_eq!(check(&answer, "Y2hhbGxlbmdl", &own), Ok(()));
        assert_eq!(check(&answer, "b3RoZXI", &own), Err("another challenge"));
        assert_eq!(check(&answer, "Y2hhbGxlbmdl", &other.credential()), Err("another credential"));
        let forged = Credential { public_key: other.credential().public_key, ..own.clone() };
        assert_eq!(check(&answer, "Y2hhbGxlbmdl", &forged), Err("another signature"));
        assert_eq!(check("{}", "Y2hhbGxlbmdl", &own), Err("no client data"));
    }
}
