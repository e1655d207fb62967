//! Whether phone numbers have a WhatsApp account, and under which ids WhatsApp knows it: namespace `usync`, mode `query`, protocols
//! `contact`, `lid` and `business`. The engine's own `is_on_whatsapp` drops the number that was asked, so that an account that is
//! known under another spelling cannot be told from one that nobody asked for.

use std::num::NonZeroU64;

use whatsapp_rust::usync::{
    UsyncAddressingMode, UsyncContext, UsyncMode, UsyncOutcome, UsyncProtocol, UsyncProtocolKind, UsyncProtocolResult,
    UsyncQuery, UsyncResponse, UsyncSubprotocolError, UsyncUser, UsyncUserResult,
};

use crate::{Engine, EngineError, ids};
use rookery_model::NumberAnswer;

/// WhatsApp's word for a number that has an account.
const HAS_ACCOUNT: &str = "in";

impl Engine {
    /// Asks about these phone numbers in one request. Numbers that the answer does not mention, or only with an error, are left out.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is changed by it. [`EngineError::Invalid`] for no number at all, and one of more than 15 digits.
    pub async fn look_up_numbers(&self, numbers: &[NonZeroU64]) -> Result<Vec<NumberAnswer>, EngineError> {
        let response = self.client.query_usync(query(numbers)?).await?;
        answers_of(&response, numbers)
    }
}

fn query(numbers: &[NonZeroU64]) -> Result<UsyncQuery, EngineError> {
    let protocols = vec![
        UsyncProtocol::Contact { addressing_mode: UsyncAddressingMode::Pn },
        UsyncProtocol::Lid,
        UsyncProtocol::BusinessVerifiedName,
    ];
    let users = numbers.iter().map(|number| UsyncUser::from_phone(number.to_string())).collect();
    let query = UsyncQuery::new(UsyncMode::Query, UsyncContext::Interactive, protocols, users);
    query.map_err(|error| EngineError::Invalid(error.to_string()))
}

/// # Errors
/// [`EngineError::Refused`] when WhatsApp does not answer the protocol `contact` at all.
fn answers_of(response: &UsyncResponse, asked: &[NonZeroU64]) -> Result<Vec<NumberAnswer>, EngineError> {
    let state = response.protocol_state(UsyncProtocolKind::Contact);
    if let Some(UsyncSubprotocolError { code, backoff, .. }) = state.and_then(|state| state.error.as_ref()) {
        return Err(EngineError::Refused { code: code.unwrap_or_default(), backoff_s: *backoff });
    }
    Ok(response.users.iter().filter_map(|user| answer_of(user, asked)).collect())
}

fn answer_of(user: &UsyncUserResult, asked: &[NonZeroU64]) -> Option<NumberAnswer> {
    let Some(UsyncProtocolResult::Contact(UsyncOutcome::Value(contact))) = user.protocol(UsyncProtocolKind::Contact)
    else {
        return None;
    };
    let known = ids::person_of([user.id.as_ref(), user.pn_jid.as_ref(), lid_of(user)]);
    // An answer repeats the number as it was asked, with a `+`. One that does not is about the number in its id.
    let repeated = contact.content.as_deref().and_then(|text| text.trim_start_matches('+').parse::<NonZeroU64>().ok());
    let number = repeated.or_else(|| known?.phone).filter(|number| asked.contains(number))?;
    if contact.contact_type != HAS_ACCOUNT {
        return Some(NumberAnswer { number, account: None });
    }
    // An account that is named by its LID alone has the number that was asked.
    let mut account = known?;
    account.phone = account.phone.or(Some(number));
    Some(NumberAnswer { number, account: Some(account) })
}

fn lid_of(user: &UsyncUserResult) -> Option<&whatsapp_rust::Jid> {
    match user.protocol(UsyncProtocolKind::Lid)? {
        UsyncProtocolResult::Lid(lid) => lid.value()?.as_ref(),
        _ => None,
    }
}
