//! What accounts and groups are made from.

/// Who may add an account to groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addable {
    /// Anyone may add it.
    #[default]
    Everyone,
    /// It can only be invited: adding answers 403 with a code for an invitation message.
    InviteOnly,
    /// It cannot even be invited: adding answers 403 without a code.
    Nobody,
    /// Adding answers this code, whatever the reason: 401 for somebody who blocks, 429 when it was too often.
    Refused(u16),
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct AccountSpec {
    /// Phone number, digits only.
    pub phone: String,
    /// Name that the phone shares with its devices; one is made up when `None`.
    pub name: Option<String>,
    /// The number of its LID; one is made up when `None`.
    pub lid: Option<String>,
    /// Who may add the account to groups.
    pub addable: Addable,
    /// Groups in LID addressing, and answers to a query by its LID, do not show its phone number.
    pub number_hidden: bool,
    /// Other spellings of its phone number, digits only: a usync query for one is answered with the account's own ids.
    pub spellings: Vec<String>,
}

impl AccountSpec {
    /// An account that anyone may add to groups, with a made-up name and LID.
    pub fn new(phone: impl Into<String>) -> Self {
        Self {
            phone: phone.into(),
            name: None,
            lid: None,
            addable: Addable::default(),
            number_hidden: false,
            spellings: Vec::new(),
        }
    }
}

/// By which id a group names its participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// By phone number.
    Pn,
    /// By LID, as WhatsApp makes all groups now.
    #[default]
    Lid,
}

/// A group to be made.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    /// Its id with or without `@g.us`; one is made up when `None`.
    pub id: Option<String>,
    /// Its subject.
    pub subject: String,
    /// Phone number of the owner.
    pub owner: String,
    /// Phone numbers of the others.
    pub participants: Vec<String>,
    /// Phone numbers of the admins among the others; those missing in `participants` are added to the group.
    pub admins: Vec<String>,
    /// How it names its participants.
    pub addressing: Addressing,
    /// Its description, if any.
    pub description: Option<String>,
    /// Its members' devices are not notified that it exists, as when WhatsApp lost the notification.
    pub quiet: bool,
}

impl GroupSpec {
    /// A group in LID addressing with its owner alone.
    pub fn new(subject: impl Into<String>, owner: impl Into<String>) -> Self {
        Self {
            id: None,
            subject: subject.into(),
            owner: owner.into(),
            participants: Vec::new(),
            admins: Vec::new(),
            addressing: Addressing::default(),
            description: None,
            quiet: false,
        }
    }
}

/// A community to be made, with its announcement group.
#[derive(Debug, Clone)]
pub struct CommunitySpec {
    /// The community itself: its subject, owner and members.
    pub group: GroupSpec,
    /// People who want to join have to be let in by an admin.
    pub closed: bool,
    /// Members may make subgroups, not only admins.
    pub members_create_groups: bool,
    /// It has a general chat.
    pub general_chat: bool,
    /// Ids of the groups that are linked to it from the beginning; their members are its members.
    pub subgroups: Vec<String>,
}

impl CommunitySpec {
    /// A community with its owner alone and no subgroup but the announcement group.
    pub fn new(subject: impl Into<String>, owner: impl Into<String>) -> Self {
        Self {
            group: GroupSpec::new(subject, owner),
            closed: false,
            members_create_groups: false,
            general_chat: false,
            subgroups: Vec::new(),
        }
    }
}

/// When the acting device gets the notification about its own change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Echo {
    /// Before the answer to its request.
    Before,
    /// After the answer.
    After,
    /// One or the other, chosen from the seed for each request.
    #[default]
    Seeded,
    /// Not at all, as when WhatsApp loses it.
    Never,
}
