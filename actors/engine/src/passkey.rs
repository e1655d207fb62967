//! Links that WhatsApp asks a passkey for. The flow is the engine's (`whatsapp_rust::passkey`), which has no time limit and
//! cannot be cancelled: whoever gives up an attempt opens another engine.

use wacore_binary::builder::NodeBuilder;
use whatsapp_rust::pair;
use whatsapp_rust::passkey::{Assertion, PasskeyError};

use super::{Engine, EngineError};
use rookery_model::PasskeyAnswer;

/// The engine ends a connection that nobody linked when the time of its QRs is over, and does not know that a person is
/// asked for a passkey. Given these in place of the used QR, it goes on for 60 s and 20 s more for each further one: a
/// thousand seconds, more than all steps of a link with a passkey may take (900 s).
const PLACEHOLDERS: usize = 48;

impl Engine {
    /// Has the engine keep the connection while a person is asked for a passkey. The QRs and codes before are void: a phone
    /// has accepted one. QRs that the engine shows from now on lead nowhere.
    pub async fn wait_for_passkey(&self) {
        // Else the engine would change the link's secret after a minute.
        self.client.cancel_pair_code().await;
        let placeholders = (0..PLACEHOLDERS).map(|_| NodeBuilder::new("ref").bytes(b"0".to_vec()).build());
        let qrs = NodeBuilder::new("pair-device").children(placeholders).build();
        let request = NodeBuilder::new("iq").attr("from", "s.whatsapp.net").children([qrs]).build();
        pair::handle_iq(&self.client, &request.as_node_ref()).await;
    }

    /// Sends the passkey's answer. It goes on when the caller is gone.
    ///
    /// # Errors
    /// [`EngineError::Refused`] by WhatsApp, or there was no answer. Another attempt needs another engine.
    pub async fn answer_passkey(&self, answer: PasskeyAnswer) -> Result<(), EngineError> {
        let client = self.client.clone();
        let PasskeyAnswer { credential_id, assertion_json } = answer;
        let sent =
            tokio::spawn(
                async move { client.send_passkey_response(Assertion { assertion_json, credential_id }).await },
            );
        sent.await.unwrap_or(Err(PasskeyError::Cancelled)).map_err(|error| passkey_error(&error))
    }

    /// Says that the phone shows the right code. It goes on when the caller is gone.
    ///
    /// # Errors
    /// As [`Self::answer_passkey`].
    pub async fn confirm_passkey(&self) -> Result<(), EngineError> {
        let client = self.client.clone();
        let sent = tokio::spawn(async move { client.send_passkey_confirmation().await });
        sent.await.unwrap_or(Err(PasskeyError::Cancelled)).map_err(|error| passkey_error(&error))
    }
}

/// In our own words: the engine's text holds WhatsApp's. WhatsApp's code is nowhere but in that text.
pub(super) fn passkey_error(error: &PasskeyError) -> EngineError {
    match refusal_code(&error.to_string()) {
        Some(code) => EngineError::Refused { code, backoff_s: None },
        None => EngineError::Unanswered("the passkey's answer was not taken".into()),
    }
}

/// The code in `... received a server error response: code=403, text='...'`.
pub(super) fn refusal_code(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("server error response: code=")?;
    rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatsapps_code_is_read_out_of_the_engines_text() {
        let text = "passkey_prologue iq failed: received a server error response: code=403, text='forbidden'";
        assert_eq!(refusal_code(text), Some(403));
        assert_eq!(refusal_code("IQ request timed out"), None);
    }
}
