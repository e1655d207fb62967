//! Linking groups to a community, and unlinking them.

use super::context::{CommandContext, Reconciliation};
use super::port::GroupChange;
use super::read_community::check_community;
use super::whatsapp_codes::{DONE, NOT_SAID, is_doubtful};
use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_engine::LinkAnswer;
use rookery_model::{GroupId, LinkCode, LinkResult};

/// Whether groups are linked to a community or unlinked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Linking {
    /// The groups become part of the community.
    Link,
    /// The groups are part of the community no longer. With `remove_orphans`, people who are in no other group of the
    /// community leave it, too.
    Unlink {
        /// Whether people without another group of the community leave it.
        remove_orphans: bool,
    },
}

impl Linking {
    /// As a noun phrase that can start a sentence.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Link => "Linking groups",
            Self::Unlink { .. } => "Unlinking groups",
        }
    }
}

/// Makes groups part of a community, or takes them out of it; one result per group, in the order of the request.
///
/// # Errors
/// As every command that changes something ([`Command`]), [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
pub struct LinkGroups {
    /// The community.
    pub community: GroupId,
    /// Each at most once.
    pub groups: Vec<GroupId>,
    /// Whether they are linked or unlinked.
    pub linking: Linking,
}

impl Command for LinkGroups {
    type Output = Vec<LinkResult>;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let Self { community, groups, linking } = self;
        check_community(session, &community)?;
        if groups.contains(&community) {
            return Err(CommandError::Invalid(format!("groups names {community}, the community itself")));
        }
        let context = session.admit(Cost::Write, Some(&community))?;
        Ok(context.run(move |context| async move {
            let look = || looked_at(&context, &community, &groups, linking);
            let call = async {
                match linking {
                    Linking::Link => context.engine.link_groups(&community, &groups).await,
                    Linking::Unlink { remove_orphans } => {
                        context.engine.unlink_groups(&community, &groups, remove_orphans).await
                    }
                }
            };
            let outcome = context.carry_out(linking.phrase(), call, look).await;
            // A link changes the groups and the community. With `remove_orphans`, participants change, too.
            let read = outcome.result.is_err() || context.read_all().await;
            let answer = outcome.result.map(|answers| link_results(linking, &groups, &answers));
            if !read || answer.as_ref().err().is_some_and(is_doubtful) {
                for group in groups.into_iter().chain([community]) {
                    context.tell(GroupChange::Doubtful { group });
                }
            }
            answer.into()
        }))
    }
}

/// Whether the groups are linked, after a request that WhatsApp did not answer. The community's own list is read, as it
/// also has groups that this account is not in.
async fn looked_at(
    context: &CommandContext,
    community: &GroupId,
    groups: &[GroupId],
    linking: Linking,
) -> Reconciliation<Vec<LinkAnswer>> {
    let linked = match context.look_up(context.engine.community_groups(community)).await {
        Ok(linked) => linked,
        Err(look) => return look,
    };
    let answer = |group: &GroupId| {
        let is_linked = linked.iter().any(|linked| linked.id == *group);
        let done = is_linked == (linking == Linking::Link);
        LinkAnswer { group: group.clone(), error: (!done).then_some(NOT_SAID) }
    };
    let answers: Vec<LinkAnswer> = groups.iter().map(answer).collect();
    if answers.iter().any(|answer| answer.error.is_none()) {
        Reconciliation::Applied(answers)
    } else {
        Reconciliation::NotApplied
    }
}

/// One result per group of a link or unlink, in the order of the request.
fn link_results(linking: Linking, groups: &[GroupId], answers: &[LinkAnswer]) -> Vec<LinkResult> {
    let result = |group: &GroupId| {
        let answer = answers.iter().find(|answer| answer.group == *group);
        let (status, code) = match answer.map(|answer| answer.error) {
            Some(None) => (Some(DONE), if linking == Linking::Link { LinkCode::Linked } else { LinkCode::Unlinked }),
            Some(Some(error)) => (Some(error).filter(|error| *error != NOT_SAID), link_refusal(linking, error)),
            None => (None, LinkCode::Failed),
        };
        LinkResult { id: group.clone(), success: status == Some(DONE), status, code, message: link_message(code) }
    };
    groups.iter().map(result).collect()
}

/// The engine's source names 406 for a full community. An unlink cannot fail for that.
fn link_refusal(linking: Linking, error: u16) -> LinkCode {
    match (linking, error) {
        (Linking::Link, 404 | 410) => LinkCode::NotFound,
        (Linking::Unlink { .. }, 404 | 410) => LinkCode::NotLinked,
        (_, 401 | 403) | (Linking::Unlink { .. }, 406) => LinkCode::NotAllowed,
        (Linking::Link, 406 | 419) => LinkCode::CommunityFull,
        (Linking::Link, 409) => LinkCode::AlreadyLinked,
        _ => LinkCode::Failed,
    }
}

fn link_message(code: LinkCode) -> Option<&'static str> {
    Some(match code {
        LinkCode::Linked | LinkCode::Unlinked => return None,
        LinkCode::NotFound => "there is no such group",
        LinkCode::NotAllowed => {
            "WhatsApp does not allow this: only an admin of both may do it, and not with an announcement group"
        }
        LinkCode::NotLinked => "does not belong to the community",
        LinkCode::AlreadyLinked => "belongs to a community already",
        LinkCode::CommunityFull => "the community is full",
        LinkCode::Failed => "WhatsApp did not do it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_results_follow_the_request_and_say_what_whatsapp_said() {
        let [one, two, three] = [1, 2, 3].map(|n| format!("12036300000000000{n}@g.us").parse::<GroupId>().unwrap());
        let answers =
            [LinkAnswer { group: two.clone(), error: Some(409) }, LinkAnswer { group: one.clone(), error: None }];
        let results = link_results(Linking::Link, &[one, two, three], &answers);
        let codes: Vec<_> = results.iter().map(|result| (result.code, result.success)).collect();
        assert_eq!(codes, [(LinkCode::Linked, true), (LinkCode::AlreadyLinked, false), (LinkCode::Failed, false)]);
    }
}
