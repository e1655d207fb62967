//! WhatsApp's private invitation: a message that lets one person into one group.

use waproto::whatsapp as wa;
use whatsapp_rust::SendError;

use super::{Engine, EngineError, Invitation, ids};
use rookery_model::{GroupId, ParticipantId};

impl Engine {
    /// Sends a person the invitation that WhatsApp gave out for them. Returns once it is sent, not when it was read.
    pub async fn send_invitation(
        &self,
        person: ParticipantId,
        group: &GroupId,
        group_name: &str,
        invitation: &Invitation,
    ) -> Result<(), EngineError> {
        let invite = wa::message::GroupInviteMessage {
            group_jid: Some(group.to_string()),
            invite_code: Some(invitation.code.clone()),
            invite_expiration: i64::try_from(invitation.expires_at).ok(),
            group_name: Some(group_name.to_owned()),
            ..Default::default()
        };
        let message = wa::Message { group_invite_message: invite.into(), ..Default::default() };
        self.client.send_message(ids::jid(person), message).await?;
        Ok(())
    }
}

impl From<SendError> for EngineError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Iq(error) => error.into(),
            SendError::InvalidRequest(reason) => Self::Invalid(reason),
            SendError::Client(_) | SendError::NotLoggedIn => Self::ConnectionLost,
            // Not the error's own text: it can name the person.
            _ => Self::Unanswered("the message could not be sent".into()),
        }
    }
}
