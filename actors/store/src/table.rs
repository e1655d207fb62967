//! The tables, each named once. A table's tree name is part of the layout on disk and never changes.

macro_rules! tables {
    ($($(#[$doc:meta])+ $name:ident = $tree:literal,)+) => {
        /// One kind of row. Every table is one sled tree, keyed by session number and key (`layout.rs`).
        #[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
        pub enum Table {
            $($(#[$doc])+ $name,)+
        }

        impl Table {
            /// Every table, in the order of the enum: `ALL[table.index()] == table`.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name on disk and in exports.
            #[must_use]
            pub const fn tree_name(self) -> &'static str {
                match self {
                    $(Self::$name => $tree,)+
                }
            }
        }
    };
}

tables! {
    /// The store's own facts, at [`super::SessionNumber::DAEMON`]: layout version, next session number.
    Meta = "meta",
    /// API keys, at [`super::SessionNumber::DAEMON`].
    Keys = "keys",
    /// The record of each session. In layout 1 at [`super::SessionNumber::DAEMON`].
    Sessions = "sessions",
    /// Idempotency keys of a session and the answers to them; may be in parts. In layout 1 at
    /// [`super::SessionNumber::DAEMON`], with the rows that are in [`Table::IdempotentHours`] now.
    IdempotentAnswers = "idempotent_answers",
    /// The hours in which the idempotency keys of a session were used.
    IdempotentHours = "idempotent_hours",
    /// The audit log, at [`super::SessionNumber::DAEMON`].
    Audit = "audit",
    /// The key of a session's events, and how far the store follows them. Until layout 4 the latest events themselves.
    Events = "events",
    /// The webhooks of a session; those of several sessions at [`super::SessionNumber::DAEMON`]. May be in parts.
    Webhooks = "webhooks",
    /// How far each webhook has come in the events of a session.
    WebhookPositions = "webhook_positions",
    /// The deliveries to webhooks that failed, and that nobody received since then.
    WebhookFailures = "webhook_failures",
    /// Messages in bulk, and what became of each; may be in parts.
    Batches = "batches",
    /// Cached group records of a session; may be in parts.
    Groups = "groups",
    /// Changes of large groups since their records in [`Table::Groups`] were written.
    GroupDeltas = "group_deltas",
    /// Names of people that a session knows.
    Names = "names",
    /// Phone numbers that WhatsApp was asked about, and the ids under which it knows them.
    Numbers = "numbers",
    /// The linked device's own keys and identity: one record per session.
    Device = "device",
    /// Identity keys of peers.
    Identities = "identities",
    /// Signal sessions with peers' devices.
    SignalSessions = "signal_sessions",
    /// One-time pre-keys, 64 to a record.
    PreKeys = "pre_keys",
    /// Signed pre-keys.
    SignedPreKeys = "signed_pre_keys",
    /// Sender keys of groups.
    SenderKeys = "sender_keys",
    /// App state keys, and which of them came last.
    SyncKeys = "sync_keys",
    /// App state version and hash per collection.
    SyncVersions = "sync_versions",
    /// App state mutation MACs per collection.
    MutationMacs = "mutation_macs",
    /// Which device of a group has our sender key.
    SenderKeyDevices = "sender_key_devices",
    /// LID to phone number.
    LidMappings = "lid_mappings",
    /// Phone number to LID: the reverse of [`Table::LidMappings`].
    PhoneMappings = "phone_mappings",
    /// Base keys seen in retries.
    BaseKeys = "base_keys",
    /// Device lists of users.
    DeviceLists = "device_lists",
    /// The engine's own group blobs, opaque.
    GroupMetadata = "group_metadata",
    /// Privacy tokens ("tc tokens") of contacts.
    PrivacyTokens = "privacy_tokens",
    /// Sent messages kept for retries.
    SentMessages = "sent_messages",
    /// Received messages not yet taken over by the daemon.
    PendingInbound = "pending_inbound",
    /// Secrets of messages that replies refer to.
    MessageSecrets = "message_secrets",
}

impl Table {
    /// Position in [`Table::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The table of this name, `None` when this version has none.
    #[must_use]
    pub fn from_tree_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|table| table.tree_name() == name)
    }

    /// Whether its rows belong to a session and go when the session goes. False: rows of the daemon itself.
    #[must_use]
    pub const fn is_per_session(self) -> bool {
        !matches!(self, Self::Meta | Self::Keys | Self::Audit)
    }

    /// Whether its rows belong to the account that is linked, and go when the account is logged out.
    #[must_use]
    pub const fn is_per_account(self) -> bool {
        let outlives = matches!(
            self,
            Self::Sessions
                | Self::IdempotentAnswers
                | Self::IdempotentHours
                | Self::Events
                | Self::Webhooks
                | Self::WebhookPositions
                | Self::WebhookFailures
        );
        self.is_per_session() && !outlives
    }
}
