//! The account's own profile: name, text, picture.

use whatsapp_rust::ProfileError;

use super::{Engine, EngineError};
use rookery_model::ProfileChange;

impl Engine {
    /// Changes what others see of the account. To do so again does no harm. A name is sent and not confirmed.
    ///
    /// # Errors
    /// [`EngineError::Refused`], [`EngineError::Unanswered`], [`EngineError::ConnectionLost`].
    pub async fn change_profile(&self, change: &ProfileChange) -> Result<(), EngineError> {
        let profile = self.client.profile();
        match change {
            ProfileChange::Name(name) => profile.set_push_name(name).await?,
            ProfileChange::About(text) => profile.set_status_text(text).await?,
            ProfileChange::Picture(Some(jpeg)) => drop(profile.set_profile_picture(jpeg.clone()).await?),
            ProfileChange::Picture(None) => drop(profile.remove_profile_picture().await?),
        }
        Ok(())
    }
}

impl From<ProfileError> for EngineError {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Iq(error) => error.into(),
            ProfileError::Client(_) => Self::ConnectionLost,
            ProfileError::InvalidArgument(_) => Self::Invalid("the account's name cannot be empty".into()),
            _ => Self::Unanswered("the profile could not be changed".into()),
        }
    }
}
