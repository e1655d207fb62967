//! What others know of somebody's devices: the hash over all devices of a message's recipients, and the notification when a
//! device is linked or removed.

use std::collections::BTreeSet;

use wacore::messages::MessageUtils;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use crate::stanza::now;
use crate::world::account::DeviceRef;
use crate::world::{Addressing, State};

impl State {
    /// The hash over all devices of a group's members, phones included.
    pub(crate) fn hash_of_group(&self, members: &[String], addressing: Addressing) -> Option<String> {
        let nobody = DeviceRef { phone: String::new(), device: 0 };
        self.hash(&self.recipients(members, &nobody), addressing)
    }

    /// The hash over all devices that should get a message to a person, when the sender left one out or knew one that is gone.
    pub(crate) fn hash_of_others<T>(
        &self,
        me: &DeviceRef,
        phone: &str,
        parts: &std::collections::BTreeMap<(String, u16), (Jid, T)>,
    ) -> Option<String> {
        let both: Vec<String> = BTreeSet::from([phone.to_owned(), me.phone.clone()]).into_iter().collect();
        let devices = self.recipients(&both, me);
        let is_known = |device: &DeviceRef| parts.contains_key(&(device.phone.clone(), device.device));
        if devices.len() == parts.len() && devices.iter().all(is_known) {
            return None;
        }
        let by_lid = parts.values().any(|(named, _)| named.is_lid());
        self.hash(&devices, if by_lid { Addressing::Lid } else { Addressing::Pn })
    }

    fn hash(&self, devices: &[DeviceRef], addressing: Addressing) -> Option<String> {
        let jids: Vec<Jid> = devices.iter().filter_map(|device| self.jid_of_device(device, addressing)).collect();
        MessageUtils::participant_list_hash(&jids).ok()
    }

    /// Tells the devices of everybody who shares a group with this account, and its own, that one of its devices is new or gone.
    pub(crate) fn tell_of_device(&mut self, device: &DeviceRef, key_index: u32, is_new: bool) {
        // Clients keep both kinds of ids apart, so both are told.
        for addressing in [Addressing::Lid, Addressing::Pn] {
            let Some(change) = self.device_change(device, key_index, is_new, addressing) else { return };
            let account = DeviceRef { phone: device.phone.clone(), device: 0 };
            let Some(from) = self.jid_of_device(&account, addressing) else { return };
            for phone in self.acquaintances(&device.phone) {
                for told in self.devices_of(&phone).into_iter().filter(|told| told != device) {
                    let notification = NodeBuilder::new("notification")
                        .attr("from", &from)
                        .attr("type", "devices")
                        .attr("id", self.next_id().to_string())
                        .attr("t", now().to_string())
                        .children([change.clone()]);
                    self.deliver(&told, vec![notification.build()]);
                }
            }
        }
    }

    fn device_change(
        &mut self,
        device: &DeviceRef,
        key_index: u32,
        is_new: bool,
        addressing: Addressing,
    ) -> Option<Node> {
        let signed = if is_new { Some(self.key_index_list(&device.phone)?) } else { None };
        let named = self.jid_of_device(device, addressing)?;
        let one = NodeBuilder::new("device").attr("jid", named).attr("key-index", key_index.to_string()).build();
        let list = NodeBuilder::new("key-index-list").attr("ts", now().to_string());
        let list = match signed {
            Some(signed) => list.bytes(signed).build(),
            None => list.build(),
        };
        Some(NodeBuilder::new(if is_new { "add" } else { "remove" }).children([one, list]).build())
    }

    /// The account itself and everybody who is in a group with it.
    pub(crate) fn acquaintances(&self, phone: &str) -> BTreeSet<String> {
        let groups = self.groups.values().filter(|group| group.members.contains_key(phone));
        groups.flat_map(|group| group.members.keys().cloned()).chain([phone.to_owned()]).collect()
    }
}
