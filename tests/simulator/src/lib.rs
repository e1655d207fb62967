//! A WhatsApp server on loopback, for tests and demos.
//!
//! It speaks the real wire protocol, so the production client runs against it unchanged. It keeps a
//! [`World`] (accounts, their phones and devices, groups) that tests read and change, and injects [`Fault`]s.
//! What is modelled, and what is not, is in this package's README.

mod admin;
mod app_state;
mod calls;
mod connection;
mod devices;
mod error;
mod faults;
mod groups;
mod limits;
mod media;
mod messages;
mod mex;
mod noise;
mod pairing;
mod passkey;
mod peer;
mod pictures;
mod prekeys;
mod presence;
mod profile;
mod proxy;
mod receipts;
mod requests;
mod resend;
mod server;
mod signal;
mod stanza;
mod tokens;
mod usync;
mod wire;
mod world;

pub use error::SimulatorError;
pub use faults::{Fault, FaultKind};
pub use groups::{AnswerIds, Answers, Orphans, ParticipantChange};
pub use limits::{NewChatLimit, ReachoutLock};
pub use media::Uploaded;
pub use messages::{FileWords, Mail, PhoneHistory, ReceivedInvitation, ReceivedMedia, ReceivedMessage};
pub use passkey::{Credential, PasskeyManner, SoftwarePasskey};
pub use presence::Typing;
pub use proxy::{ProxyBehaviour, ProxyProtocol, ProxyServer};
pub use receipts::ReceivedReceipt;
pub use server::{Simulator, SimulatorOptions};
pub use wacore::download::MediaType;
pub use world::group::settings::Setting;
pub use world::group::telling::{Telling, ToldAt, ToldChild};
pub use world::history::GroupChange;
pub use world::phone::Phone;
pub use world::suspending::Suspension;
pub use world::view::{GroupView, JoinMethod, JoinRequestView, MemberView, Role};
pub use world::{AccountSpec, Addable, Addressing, CommunitySpec, Echo, GroupSpec, World};
