//! The account that a session belongs to: the one that linked it first, until it is logged out or a caller allows
//! another.
//!
//! ```text
//! nobody's --linked--> theirs --removed at the phone, stopped, killed--> theirs
//! theirs --another account links, not allowed--> turned away: unlinked at once, nothing of it is read or kept
//! theirs --another account links, allowed by the start--> the other's
//! theirs --logged out by a caller--> nobody's
//! ```
//!
//! A link that cannot be put on disk is turned away in the same manner: a restart would lose it, and leave its device behind.
//!
//! Each change of account has a number of its own, the account epoch. What was granted or kept in one epoch is void in
//! the next.

use std::time::Duration;

use tracing::warn;

use super::SessionState;
use super::lifecycle::{Fact, TurnedAway};
use super::message::{Generation, SessionMsg};
use rookery_model::EventKind;
use rookery_model::ParticipantIds;

/// An account that is turned away has to log in before it can be unlinked: the engine's two connects and WhatsApp's answer.
const TURN_AWAY_TIME: Duration = Duration::from_secs(30);
/// The wait after a connection was lost while WhatsApp was asked to unlink.
const UNLINK_RETRY: Duration = Duration::from_secs(1);

/// Whether two accounts are the same: by LID where both are known, else by number. Numbers are given to other people in
/// time.
fn is_same(one: &ParticipantIds, other: &ParticipantIds) -> bool {
    match (one.lid, other.lid) {
        (Some(one), Some(other)) => one == other,
        _ => one.phone.is_some() && one.phone == other.phone,
    }
}

impl SessionState {
    /// Whether this account may not have the session.
    pub(super) fn is_foreign(&self, account: &ParticipantIds) -> bool {
        !self.pairing.account_change_allowed && self.record.account.is_some_and(|known| !is_same(&known, account))
    }

    /// Unlinks the new link as soon as it is logged in. The reason of the first call counts.
    pub(super) fn turn_away(&mut self, why: TurnedAway) {
        let Some(engine) = self.engine.any().filter(|_| self.engine.turned_away.is_none()) else { return };
        warn!(session.id = %self.entry.id, reason = why.as_str(), "a link may not stay, unlinking it");
        self.engine.turned_away = Some(why);
        self.passkey = None;
        let (myself, generation) = (self.myself.clone(), self.engine.generation());
        tokio::spawn(async move {
            let unlinked = async {
                loop {
                    engine.logged_in().await;
                    if engine.log_out().await {
                        return;
                    }
                    tokio::time::sleep(UNLINK_RETRY).await;
                }
            };
            let unlinked = tokio::time::timeout(TURN_AWAY_TIME, unlinked).await.is_ok();
            let _ = myself.send_message(SessionMsg::TurnedAway { generation, unlinked });
        });
    }

    pub(super) fn turned_away(&mut self, generation: Generation, unlinked: bool) {
        if !self.engine.is_current(generation) {
            return;
        }
        let Some(why) = self.engine.turned_away.take() else { return };
        if why == TurnedAway::OtherAccount {
            self.tell(EventKind::OtherAccountRefused);
        }
        self.apply(Fact::TurnedAway { why, unlinked });
    }

    /// Whether the session is about to change from another account to this one.
    pub(super) fn is_to_change_to(&self, account: &ParticipantIds) -> bool {
        self.record.account.is_some_and(|known| !is_same(&known, account))
    }

    /// Gives the session to the account that is about to be `ready`.
    pub(super) fn take_over(&mut self, account: ParticipantIds) {
        if self.is_to_change_to(&account) {
            self.record.account_epoch += 1;
            self.tell(EventKind::AccountChanged);
        }
        self.record.account = Some(account);
        self.pairing.account_change_allowed = false;
        self.tell_held_messages();
    }

    /// A caller logged the account out: the session is free for any account.
    pub(super) fn give_up_account(&mut self) {
        if self.record.account.take().is_some() {
            self.record.account_epoch += 1;
            self.tell(EventKind::AccountChanged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_model::ParticipantId;

    #[test]
    fn an_account_is_the_same_by_its_lid_and_by_its_number_where_no_lid_is_known() {
        let phone = |digits| ParticipantIds::from(ParticipantId::Phone(digits));
        let both = |digits, lid| {
            let mut person = phone(digits);
            person.learn(&ParticipantId::Lid(lid).into());
            person
        };
        let table = [
            (both(1, 7), both(1, 7), true),
            // The account has another number now.
            (both(1, 7), both(2, 7), true),
            // The number belongs to somebody else now.
            (both(1, 7), both(1, 8), false),
            (phone(1), both(1, 8), true),
            (phone(1), phone(2), false),
            (ParticipantIds::default(), ParticipantIds::default(), false),
        ];
        for (one, other, expected) in table {
            assert_eq!(is_same(&one, &other), expected, "{one:?} {other:?}");
        }
    }
}
