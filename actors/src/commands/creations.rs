//! Groups and communities that are being created, and the search for one that WhatsApp did not confirm. Never does IO.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use uuid::Uuid;

use crate::group_cache::{GroupCache, Sequence};
use rookery_model::{CommunityRole, GroupId, GroupRecord, ParticipantIds};

/// Keys of recently created groups, from notifications: as many as creates may be in flight.
const CREATED_KEYS_MAX: usize = 64;

/// A group that is being created, with the data that finds it when WhatsApp does not confirm it.
pub(crate) struct Creation {
    /// The notification about the group has this key.
    key: String,
    name: String,
    is_community: bool,
    /// The community of the group.
    community: Option<GroupId>,
    /// The groups that there were before.
    known: BTreeSet<GroupId>,
    asked: Sequence,
}

/// The result of a search in the cache for a group that may have been created.
pub(crate) enum Found {
    /// This group was created.
    Made(Box<GroupRecord>),
    /// No such group is there.
    Nothing,
    /// The groups found may be those of other requests.
    Unclear,
}

/// Recently created groups by the key of their request, and requests that are under way.
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

    /// Remembers the groups that there are before one is created.
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

    /// The group that a request created, as far as the cache knows. Without the request's key, it is a new group of
    /// ours that looks like it. Requests that look the same are told apart only when there is a group for each.
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

    /// Counts the requests like this one, itself included, whose group is not known yet.
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

    /// When the group was asked for.
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
