//! The admin key that the operator chose: from a variable, a file, or a credential of systemd. Never from the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::auth::Secret;
use crate::config::{BOOTSTRAP_KEY_RULE, Config, bootstrap_key};
use crate::files;

/// The name of the key among systemd's credentials (`LoadCredential=rookery-bootstrap-key:...`).
const CREDENTIAL: &str = "rookery-bootstrap-key";

/// The operator's key; `None`: there is none. The variable wins over the file, and the file over the credential.
///
/// # Errors
/// The file cannot be read, others may read it, or it holds something else.
pub(crate) fn find(config: &Config) -> Result<Option<Secret>> {
    if config.bootstrap_key.is_some() {
        return Ok(config.bootstrap_key.clone());
    }
    let credential = config.location.credentials_dir.as_ref().map(|directory| directory.join(CREDENTIAL));
    let given = config.bootstrap_key_file.clone().or_else(|| credential.filter(|file| file.exists()));
    given.map(read).transpose()
}

fn read(file: PathBuf) -> Result<Secret> {
    let named = || format!("could not use the bootstrap key in `{}`", file.display());
    let text = files::read_private(&file).with_context(named)?;
    let text = text.with_context(|| format!("there is no bootstrap key in `{}`", file.display()))?;
    bootstrap_key(text.trim()).with_context(|| format!("{}: it must be {BOOTSTRAP_KEY_RULE}", named()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_the_file_and_that_over_the_credential() {
        let directory = tempfile::tempdir().unwrap();
        let (file, credential) = (directory.path().join("key"), directory.path().join(CREDENTIAL));
        let [of_variable, of_file, of_credential] = ["v", "f", "c"].map(|letter| letter.repeat(32));
        let mut config = Config::default();
        config.location.credentials_dir = Some(directory.path().into());
        assert_eq!(find(&config).unwrap(), None);
        files::write_secret(&credential, &of_credential).unwrap();
        assert_eq!(find(&config).unwrap(), Some(of_credential.as_str().into()));
        config.bootstrap_key_file = Some(file.clone());
        assert!(find(&config).unwrap_err().to_string().contains("there is no bootstrap key in"), "it was named");
        files::write_secret(&file, &of_file).unwrap();
        assert_eq!(find(&config).unwrap(), Some(of_file.as_str().into()));
        config.bootstrap_key = Some(of_variable.as_str().into());
        assert_eq!(find(&config).unwrap(), Some(of_variable.as_str().into()));
        config.bootstrap_key = None;
        files::write_secret(&file, "too short").unwrap();
        let refused = format!("{:#}", find(&config).unwrap_err());
        assert!(refused.contains("32 to 256 characters") && !refused.contains("too short"), "{refused}");
    }
}
