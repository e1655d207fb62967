//! `rookery demo`: what it prints works when it is pasted into a shell, and it leaves nothing behind.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::child::{Child, Signal};
use super::setup::TIME_MAX;
use crate::harness::until;
use crate::receiver::Receiver;

/// Nothing is in flight.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_curl_lines_work_and_nothing_of_it_is_left_behind() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let folders = || std::fs::read_dir(temporary.path()).expect("it can be read").count();
    let directory = temporary.path().to_string_lossy();
    let demo = Child::spawn(&["demo", "--listen", "127.0.0.1:0"], &[("TMPDIR", &*directory)]);
    let until_ready = |output: &str| output.ends_with("\nready\n").then(|| output.to_owned());
    let printed = demo.until_output("`ready` line", TIME_MAX, until_ready).await;
    assert_eq!(folders(), 1, "its data is in a temporary folder");

    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("curl ")).collect();
    let [list, get, add, rename] = lines[..] else { panic!("not four curl lines:\n{printed}") };
    let (status, groups) = pasted(list);
    let mut names: Vec<_> =
        groups.as_array().into_iter().flatten().filter_map(|group| group["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        (status, names),
        (200, vec!["Book Club", "Neighbourhood", "Park", "Park", "Project Team"]),
        "{groups:#}"
    );

    let (status, team) = pasted(get);
    assert_eq!((status, &team["id"]), (200, &json!("120363021234567890@g.us")), "{team:#}");
    assert_eq!((&team["name"], participants(&team)), (&json!("Project Team"), 12), "{team:#}");

    let (status, added) = pasted(add);
    assert_eq!((status, &added["message"]), (200, &json!("Participants added")), "{added:#}");
    let outcome = |index: usize| (&added["results"][index]["id"], &added["results"][index]["code"]);
    assert_eq!(outcome(0), (&json!("628123456789@c.us"), &json!("added")), "{added:#}");
    assert_eq!(outcome(1), (&json!("15550100020@c.us"), &json!("invite_required")), "{added:#}");

    let (status, renamed) = pasted(rename);
    assert_eq!((status, renamed), (200, json!({ "success": true, "message": "Group subject updated" })));
    let (_, team) = pasted(get);
    assert_eq!((&team["name"], participants(&team)), (&json!("Launch Team"), 13), "{team:#}");

    demo.signal(Signal::Interrupt);
    assert_eq!(demo.until_exit(SHUTDOWN_TIME_MAX).await, Some(0), "{}", demo.output());
    assert_eq!(folders(), 0, "its temporary folder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_chatty_demo_something_happens_by_itself() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = temporary.path().to_string_lossy();
    let demo = Child::spawn(&["demo", "--chatty", "--listen", "127.0.0.1:0"], &[("TMPDIR", &*directory)]);
    let until_ready = |output: &str| output.ends_with("\nready\n").then(|| output.to_owned());
    let printed = demo.until_output("`ready` line", TIME_MAX, until_ready).await;
    let list = printed.lines().find(|line| line.starts_with("curl ")).expect("a curl line");
    let events = list.replace("/groups'", "/events?types=group.join,message.received'");
    let told = until("events", async || {
        let (status, page) = pasted(&events);
        assert_eq!(status, 200, "{page}");
        let kinds = page["events"].as_array().expect("a list").iter().map(|event| event["event"].clone());
        let kinds: std::collections::BTreeSet<String> = kinds.map(|kind| kind.to_string()).collect();
        (kinds.len() == 2).then_some(page)
    })
    .await;
    assert_eq!(told["events"][0]["groupId"], "120363021234567890@g.us");
    demo.signal(Signal::Interrupt);
    assert_eq!(demo.until_exit(SHUTDOWN_TIME_MAX).await, Some(0), "{}", demo.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_delivers_to_a_webhook_on_this_machine() {
    let (temporary, receiver) = (tempfile::tempdir().expect("a temporary directory"), Receiver::start().await);
    let (directory, url) = (temporary.path().to_string_lossy(), receiver.url("/hook"));
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--webhook", &url];
    let demo = Child::spawn(&arguments, &[("TMPDIR", &*directory)]);
    let until_ready = |output: &str| output.ends_with("\nready\n").then(|| output.to_owned());
    let printed = demo.until_output("`ready` line", TIME_MAX, until_ready).await;
    let add = printed.lines().find(|line| line.contains("/participants'")).expect("a curl line");
    assert_eq!(pasted(add).0, 200);
    let told =
        until("the delivery", async || receiver.arrived().into_iter().find(|one| one.event() == "group.join")).await;
    assert!(told.header("x-openwa-signature").starts_with("sha256="), "{told:?}");
    demo.signal(Signal::Interrupt);
    assert_eq!(demo.until_exit(SHUTDOWN_TIME_MAX).await, Some(0), "{}", demo.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_refuses_a_data_directory_that_is_not_empty() {
    let given = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(given.path().join("precious"), "data").expect("it can be written");
    let directory = given.path().to_string_lossy();
    let demo = Child::spawn(&["demo", "--listen", "127.0.0.1:0", "--data-dir", &directory], &[]);
    assert_eq!(demo.until_exit(TIME_MAX).await, Some(1));
    assert!(demo.output().contains("must be empty"), "{}", demo.output());
    assert!(given.path().join("precious").exists());
}

fn participants(group: &Value) -> usize {
    group["participants"].as_array().map_or(0, Vec::len)
}

/// Runs a curl line in a shell: the status and the JSON that came back.
fn pasted(line: &str) -> (u16, Value) {
    let script = format!("{line} --silent --show-error --write-out '\\n%{{http_code}}'");
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line} (is curl there?): {errors}");
    let (body, status) = text.rsplit_once('\n').expect("the status is on a line of its own");
    let json = serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}: {body}"));
    (status.parse().expect("a status"), json)
}
