//! Events about messages: those that come again, and those that do not.

use rookery_model::{MessageEventKind, MessageNote};
use rookery_store::SpaceUse;

use super::*;

/// A message of so many bytes; the receiver hears whether it is kept.
fn message(bench: &mut Bench, bytes: usize) -> tokio::sync::oneshot::Receiver<bool> {
    let (kept, answer) = tokio::sync::oneshot::channel();
    let data = Map::from_iter([("body".to_owned(), json!("x".repeat(bytes)))]);
    let kind = EventKind::Message(MessageEventKind::Received);
    let event = Event { group: Some(group()), ..Event::of_session(bench.record.id, kind, data) };
    bench.journal.tell_message(event, Claim::Again(Keeping::new(1, kept)));
    answer
}

/// A message that was sent; the receiver hears whether it is kept.
fn sent(bench: &mut Bench, id: &str) -> tokio::sync::oneshot::Receiver<bool> {
    let (kept, answer) = tokio::sync::oneshot::channel();
    let note = MessageNote {
        chats: vec![group().to_string()],
        id: id.to_owned(),
        change: None,
        is_from_me: true,
        authors: Vec::new(),
        recipients: None,
        written_by: Vec::new(),
        protocol: None,
    };
    let kind = EventKind::Message(MessageEventKind::Sent);
    let event = Event { message: Some(Box::new(note)), ..Event::of_session(bench.record.id, kind, Map::new()) };
    bench.journal.tell_message(event, Claim::Report(Some(Keeping::new(1, kept))));
    answer
}

#[tokio::test]
async fn messages_are_kept_whatever_their_length_and_those_that_the_disk_refuses_are_given_back() {
    let mut bench = Bench::new(3).await;
    let (short, long, last) = (message(&mut bench, 10), message(&mut bench, 400_000), message(&mut bench, 10));
    bench.added(1);
    while !bench.journal.waiting_events.is_empty() || !bench.journal.is_quiet(&bench.cache) {
        bench.write().await;
    }
    assert_eq!((short.await, long.await, last.await), (Ok(true), Ok(true), Ok(true)));
    assert_eq!(bench.last_event(), 4);

    let (refused, waiting) = (message(&mut bench, 100_000), message(&mut bench, 100_000));
    bench.added(2);
    bench.refuse(true).unwrap();
    assert_eq!((refused.await, waiting.await), (Ok(false), Ok(false)), "they come again");
    assert!(bench.journal.is_refused());
    bench.journal.retry();
    bench.write().await;
    let again = message(&mut bench, 10);
    bench.write().await;
    assert_eq!(again.await, Ok(true));
    let kinds: Vec<&str> = bench.events().await[4..].iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["group.join", "message.received"], "what nobody waits for is told later");
}

#[tokio::test]
async fn what_was_sent_is_told_once_also_where_the_disk_was_full() {
    let mut bench = Bench::new(3).await;
    bench.added(1);
    let first = sent(&mut bench, "one");
    bench.refuse(true).unwrap();
    assert_eq!(first.await, Ok(false), "its sender does not wait for the disk");
    assert!(bench.journal.draft(&mut bench.cache, true).is_none(), "it is not tried again at once");

    let (again, next) = (sent(&mut bench, "one"), sent(&mut bench, "two"));
    assert_eq!(again.await, Ok(false), "the same message waits already");
    let draft = bench.journal.draft(&mut bench.cache, true).expect("a new one is tried while others wait");
    assert_eq!((draft.space(), draft.events.len(), draft.groups.len()), (SpaceUse::Reporting, 2, 0));
    bench.write_draft(draft).await;
    assert_eq!(next.await, Ok(true));
    assert!(bench.journal.is_refused() && bench.journal.trouble().is_some(), "that is no sign of room for others");

    bench.journal.retry();
    bench.write().await;
    assert_eq!(bench.journal.trouble(), None);
    let kinds: Vec<&str> = bench.events().await.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["message.sent", "message.sent", "group.join"]);
}

#[tokio::test]
async fn nobody_waits_for_a_disk_that_refuses_however_many_reports_there_are() {
    let mut bench = Bench::new(3).await;
    let ids: Vec<String> = (0..2_000).map(|number| format!("{number:0200}")).collect();
    for (nth, id) in ids.iter().enumerate() {
        let answer = sent(&mut bench, id);
        if nth % 100 == 0 {
            bench.refuse(true).unwrap();
        }
        drop(answer);
    }
    let last = sent(&mut bench, "last");
    bench.refuse(true).unwrap();
    assert_eq!(last.await, Ok(false), "also where the batch had no room for it");
    let again = sent(&mut bench, "again");
    let mut batches = 0;
    while let Some(draft) = bench.journal.draft(&mut bench.cache, true) {
        bench.write_draft(draft).await;
        batches += 1;
    }
    assert_eq!(again.await, Ok(true), "one batch follows the other");
    assert!(batches > 1);
    assert_eq!(bench.last_event(), 2_002, "each is told once");
}
