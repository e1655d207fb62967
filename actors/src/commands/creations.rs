//! Groups and communities that are being made, and finding one whose making WhatsApp did not confirm. Never does IO.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use uuid::Uuid;

use crate::group_cache::{GroupCache, Sequence};
use rookery_model::{CommunityRole, GroupId, GroupRecord, ParticipantIds};

/// Keys of groups that were made lately, as notifications tell them: as many creates as may be in flight.
const CREATED_KEYS_MAX: usize = 64;

/// A group that is being made: how it can be found if WhatsApp does not say.
pub(crate) struct Creation {
    /// Comes back in the notification about it.
    key: String,
    name: String,
    is_community: bool,
    /// The community that it is part of.
    community: Option<GroupId>,
    /// The groups that there were before.
    known: BTreeSet<GroupId>,
    asked: Sequence,
}

/// What became of a group that may have been made, as far as the cache knows.
pub(crate) enum Found {
    /// This is it.
    Made(Box<GroupRecord>),
    /// There is none.
    Nothing,
    /// It could be one of several requests that made what there is.
    Unclear,
}

/// Groups that were made lately, by the key of the request, and requests that are under way.
#[derive(Default)]
pub(crate) struct Creations {
    by_key: VecDeque<(String, GroupId)>,
    under_way: Vec<Weak<Creation>>,
}

impl Creations {
    /// A notification or an answer named the group that a request of ours made.
    pub(crate) fn note(&mut self, key: &str, group: &GroupId) {
        self.by_key.retain(|(known, _)| known != key);
        if self.by_key.len() >= CREATED_KEYS_MAX {
            self.by_key.pop_front();
        }
        self.by_key.push_back((key.to_owned(), group.clone()));
    }

    /// Remembers how things are before a group is made.
    pub(super) fn begin(
        &mut self,
        cache: &GroupCache,
        name: &str,
        is_community: bool,
        community: Option<GroupId>,
    ) -> Arc<Creation> {
        let creation = Arc::new(Creation {
            // 32 hex digits, as WhatsApp Web's.
            key: Uuid::new_v4().simple().to_string().to_uppercase(),
            name: name.to_owned(),
            is_community,
            community,
            known: cache.ids().cloned().collect(),
            asked: cache.sequence(),
        });
        self.under_way.retain(|known| known.strong_count() > 0);
        self.under_way.push(Arc::downgrade(&creation));
        creation
    }

    /// The group that a request made, as far as the cache knows. Without its key it is one of ours that looks like it and
    /// was not there before; requests that look the same are told apart only when there is a group for each.
    pub(crate) fn find(&mut self, creation: &Creation, cache: &GroupCache, me: &ParticipantIds) -> Found {
        let found = match self.by_key(&creation.key) {
            Some(group) => group.clone(),
            None => {
                let fits = |id: &&GroupId| {
                    let fresh = !creation.known.contains(*id) && !self.is_made(id);
                    fresh && cache.record(id).is_some_and(|record| creation.fits(&record, me))
                };
                let fitting: Vec<&GroupId> = cache.ids().filter(fits).collect();
                match fitting.first() {
                    None => return Found::Nothing,
                    Some(_) if fitting.len() < self.open_like(creation) => return Found::Unclear,
                    Some(first) => (*first).clone(),
                }
            }
        };
        self.note(&creation.key, &found);
        let record = cache.record(&found).map(|record| Box::new(record.into_owned()));
        record.map_or(Found::Nothing, Found::Made)
    }

    fn by_key(&self, key: &str) -> Option<&GroupId> {
        self.by_key.iter().find(|(known, _)| known == key).map(|(_, group)| group)
    }

    fn is_made(&self, group: &GroupId) -> bool {
        self.by_key.iter().any(|(_, made)| made == group)
    }

    /// Requests like this one, itself included, of which nobody knows yet what they made.
    fn open_like(&self, creation: &Creation) -> usize {
        let open = self.under_way.iter().filter_map(Weak::upgrade);
        open.filter(|other| other.name == creation.name && self.by_key(&other.key).is_none()).count()
    }
}

impl Creation {
    /// The key of the request.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// When it was asked for.
    pub(super) fn asked(&self) -> Sequence {
        self.asked
    }

    fn fits(&self, record: &GroupRecord, me: &ParticipantIds) -> bool {
        record.owner.is_some_and(|owner| owner.is(me))
            && record.subject == self.name
            && record.is_community == self.is_community
            && record.linked_parent == self.community
            && record.community_role == CommunityRole::Plain
    }
}
