//! Pictures of groups. WhatsApp keeps them; we only ask for their address.

use whatsapp_rust::ContactError;

use super::{Engine, EngineError, ids};
use rookery_model::GroupId;

impl Engine {
    /// The picture's URL, which is valid for some days; `None` when the group has no picture.
    pub async fn picture_url(&self, group: &GroupId) -> Result<Option<String>, EngineError> {
        let picture = self.client.contacts().get_profile_picture(&ids::group_jid(group), false).await;
        match picture.map_err(EngineError::from) {
            Ok(picture) => Ok(picture.map(|picture| picture.url).filter(|url| !url.is_empty())),
            Err(EngineError::Refused { code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the picture, a square JPEG; `None` removes it.
    pub async fn set_picture(&self, group: &GroupId, jpeg: Option<Vec<u8>>) -> Result<(), EngineError> {
        let (groups, group) = (self.client.groups(), ids::group_jid(group));
        match jpeg {
            Some(jpeg) => groups.set_profile_picture(group, jpeg).await?,
            None => groups.remove_profile_picture(group).await?,
        };
        Ok(())
    }
}

impl From<ContactError> for EngineError {
    fn from(error: ContactError) -> Self {
        match error {
            ContactError::Iq(error) => error.into(),
            _ => Self::Invalid("pictures of this kind of chat cannot be asked for".into()),
        }
    }
}
