//! Who is online, and who is typing. Neither waits for a device that is offline.

use std::time::{Duration, Instant};

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node};

use crate::messages::Chat;
use crate::stanza::{attr, children, jid_attr, now};
use crate::world::account::{Account, DeviceRef};
use crate::world::group::group_user;
use crate::world::{Addressing, State, World};

/// How long somebody is shown as typing without another word.
const TYPING_TIME: Duration = Duration::from_secs(3);

/// What somebody does in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Typing {
    /// Somebody writes.
    Composing,
    /// Somebody records a voice note.
    Recording,
    /// Somebody has stopped.
    Paused,
}

impl Typing {
    fn node(self) -> Node {
        match self {
            Self::Composing => NodeBuilder::new("composing").build(),
            Self::Recording => NodeBuilder::new("composing").attr("media", "audio").build(),
            Self::Paused => NodeBuilder::new("paused").build(),
        }
    }

    fn of(chatstate: &Node) -> Option<Self> {
        let state = children(chatstate).first()?;
        match (state.tag.as_ref(), attr(state, "media").as_deref()) {
            ("composing", Some("audio")) => Some(Self::Recording),
            ("composing", _) => Some(Self::Composing),
            ("paused", _) => Some(Self::Paused),
            _ => None,
        }
    }
}

impl World {
    /// Whether the account was last shown as online; `None`: no device said so.
    #[must_use]
    pub fn presence(&self, phone: &str) -> Option<bool> {
        self.lock().accounts.get(phone).and_then(|account| account.is_available)
    }

    /// The owner of a phone opens WhatsApp, or closes it: devices that watch the account are told.
    pub fn set_online(&self, phone: &str, online: bool) {
        let mut state = self.lock();
        state.ensure_account(phone);
        state.set_available(phone, online);
    }

    /// What this account does in a chat: a group (an id with `@g.us`) or the chat with a person (a phone number). `None` when
    /// nothing was told about it for three seconds.
    #[must_use]
    pub fn typing(&self, phone: &str, chat: &str) -> Option<Typing> {
        let state = self.lock();
        let (typing, since) = state.accounts.get(phone)?.typing.get(chat)?;
        (since.elapsed() < TYPING_TIME).then_some(*typing)
    }

    /// The owner of a phone types in a chat.
    pub fn type_in(&self, phone: &str, chat: &str, typing: Typing) {
        let mut state = self.lock();
        state.ensure_account(phone);
        let place = match chat.contains('@') {
            true => Chat::Group(group_user(chat).to_owned()),
            false => Chat::Person(chat.to_owned()),
        };
        let me = DeviceRef { phone: phone.to_owned(), device: 0 };
        state.tell_typing(&me, &place, Addressing::Lid, typing);
    }
}

impl State {
    fn set_available(&mut self, phone: &str, available: bool) {
        if let Some(account) = self.account_mut(phone) {
            account.is_available = Some(available);
            account.seen_at = Some(now());
        }
        self.tell_watchers(phone, available);
    }

    /// Tells the devices that watch this account.
    pub(crate) fn tell_watchers(&mut self, phone: &str, available: bool) {
        let watchers: Vec<(DeviceRef, Jid)> = self
            .accounts
            .values()
            .flat_map(|account| {
                account.devices.iter().filter_map(|(number, device)| {
                    let named = device.watched.get(phone)?.clone();
                    Some((DeviceRef { phone: account.phone.clone(), device: *number }, named))
                })
            })
            .collect();
        let seen_at = self.accounts.get(phone).and_then(|account| account.seen_at);
        for (watcher, named) in watchers {
            self.send(&watcher, vec![presence_of(named, available, seen_at)]);
        }
    }

    fn tell_typing(&mut self, me: &DeviceRef, chat: &Chat, addressing: Addressing, typing: Typing) {
        if let Some(account) = self.account_mut(&me.phone) {
            account.typing.insert(chat.name(), (typing, Instant::now()));
        }
        let (recipients, addressing) = match chat {
            Chat::Person(person) => (vec![person.clone()], addressing),
            Chat::Group(group) => match self.groups.get(group) {
                Some(group) if group.members.contains_key(&me.phone) => (group.phones(), group.addressing),
                _ => return,
            },
        };
        let Some(named) = self.jid_of_device(me, addressing).map(|jid| jid.to_non_ad()) else { return };
        let stanza = match chat {
            Chat::Person(_) => NodeBuilder::new("chatstate").attr("from", named),
            Chat::Group(group) => {
                NodeBuilder::new("chatstate").attr("from", Jid::group(group.as_str())).attr("participant", named)
            }
        };
        let stanza = stanza.children([typing.node()]).build();
        for phone in recipients.iter().filter(|phone| **phone != me.phone) {
            for device in self.devices_of(phone) {
                if self.device_mut(&device).is_some_and(|device| device.active) {
                    self.send(&device, vec![stanza.clone()]);
                }
            }
        }
    }
}

fn presence_of(named: Jid, available: bool, seen_at: Option<u64>) -> Node {
    let presence = NodeBuilder::new("presence").attr("from", named);
    if available {
        return presence.build();
    }
    let last = seen_at.map_or_else(|| "deny".to_owned(), |seen_at| seen_at.to_string());
    presence.attr("type", "unavailable").attr("last", last).build()
}

/// A device says what its account is to be shown as and what its name is, or asks to be told about others.
pub(crate) fn on_presence(state: &mut State, me: &DeviceRef, presence: &Node) {
    let kind = attr(presence, "type");
    let counted = kind.clone().unwrap_or_else(|| "name".into());
    state.count(&me.phone, &format!("presence:{counted}"));
    if let Some(name) = attr(presence, "name").filter(|name| !name.is_empty())
        && let Some(account) = state.account_mut(&me.phone)
    {
        account.name = name;
    }
    match kind.as_deref() {
        Some("subscribe") => watch(state, me, presence),
        Some("unsubscribe") => {
            let phone = jid_attr(presence, "to").and_then(|to| state.phone_of(&to));
            if let (Some(phone), Some(device)) = (phone, state.device_mut(me)) {
                device.watched.remove(&phone);
            }
        }
        Some("available") => state.set_available(&me.phone, true),
        Some("unavailable") => state.set_available(&me.phone, false),
        _ => {}
    }
}

/// The device learns the present state at once, and each change while it is connected.
fn watch(state: &mut State, me: &DeviceRef, presence: &Node) {
    let Some(to) = jid_attr(presence, "to").filter(|to| !to.is_group()) else { return };
    let Some(phone) = state.phone_of(&to) else { return };
    let is_shown = |account: &Account| (account.is_available == Some(true), account.seen_at);
    let (available, seen_at) = state.accounts.get(&phone).map(is_shown).unwrap_or_default();
    if let Some(device) = state.device_mut(me) {
        device.watched.insert(phone, to.clone());
    }
    state.send(me, vec![presence_of(to, available, seen_at)]);
}

/// A device says that somebody types.
pub(crate) fn on_chatstate(state: &mut State, me: &DeviceRef, chatstate: &Node) {
    let (Some(to), Some(typing)) = (jid_attr(chatstate, "to"), Typing::of(chatstate)) else { return };
    state.count(&me.phone, "chatstate");
    let addressing = if to.is_lid() { Addressing::Lid } else { Addressing::Pn };
    let chat = match to.is_group() {
        true => Some(Chat::Group(to.user.to_string())),
        false => state.phone_of(&to).map(Chat::Person),
    };
    if let Some(chat) = chat {
        state.tell_typing(me, &chat, addressing, typing);
    }
}
