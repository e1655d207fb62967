//! Mistakes that an operator can make with secrets: the command line, rights of others, core dumps, a store that is
//! gone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::child::Child;
use super::setup::{KEY, Setup, TIME_MAX};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_key_comes_from_a_file_and_not_from_the_command_line() {
    let setup = Setup::start().await;
    let refused = Child::spawn(&["serve", "--bootstrap-key", KEY], &[]);
    assert_eq!(refused.until_exit(TIME_MAX).await, Some(64), "{}", refused.output());
    let output = refused.output();
    assert!(output.contains("--bootstrap-key-file") && !output.contains(KEY), "{output}");

    let file = Path::new(&setup.data_dir()).join("bootstrap");
    fs::write(&file, format!("{KEY}\n")).expect("it can be written");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is ours");
    let named = file.to_string_lossy().into_owned();
    let variables = [("ROOKERY_BOOTSTRAP_KEY", ""), ("ROOKERY_BOOTSTRAP_KEY_FILE", &*named)];
    let daemon = setup.daemon_with(&variables).await;
    assert_eq!(daemon.get("/api/auth/api-keys").await.0, 200, "the file's key is an admin's");
    assert_eq!(mode(&file), 0o640);
    assert!(daemon.child.output().contains("others could read or change a secret"), "{}", daemon.child.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn others_have_no_rights_to_the_data_and_nothing_is_dumped() {
    let setup = Setup::start().await;
    let data = setup.data_dir();
    let data = Path::new(&data);
    setup.daemon().await.child.kill();
    let pepper = data.join("api-keys.pepper");
    fs::set_permissions(data, Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(&pepper, Permissions::from_mode(0o666)).expect("it is ours");
    let daemon = setup.daemon().await;
    assert_eq!((mode(data), mode(&pepper)), (0o700, 0o640));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.child.id())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux says so");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_missed() {
    let setup = Setup::start().await;
    setup.daemon().await.child.kill();
    let store = Path::new(&setup.data_dir()).join("store");
    let aside = store.with_extension("aside");
    fs::rename(&store, &aside).expect("it is there");
    let refused = setup.spawn_daemon(&[]);
    assert_eq!(refused.until_exit(TIME_MAX).await, Some(1));
    let output = refused.output();
    assert!(output.contains("put the directory back") && output.contains("To begin anew"), "{output}");
    assert!(!store.exists(), "no empty one was made");
    fs::rename(&aside, &store).expect("it is there");
    assert_eq!(setup.daemon().await.get("/api/sessions").await.0, 200);
}
