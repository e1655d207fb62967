//! The account's own profile, and what clients may expect that is not here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;

use crate::harness::{ALICE, Bench, until_equal};

#[tokio::test(flavor = "multi_thread")]
async fn name_text_and_picture_of_the_account_are_changed_as_others_see_them() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let named = bench.put("/sessions/alice/profile/name", json!({ "name": "Alice & Co" })).await;
    assert_eq!(named.status, 200, "{named:?}");
    until_equal(json!("Alice & Co"), async || bench.get("/sessions/alice").await.body["pushName"].clone()).await;
    let account = || {
        let accounts = bench.world.snapshot()["accounts"].as_array().unwrap().clone();
        accounts.into_iter().find(|account| account["phone"] == ALICE).unwrap()
    };
    until_equal(json!("Alice & Co"), async || account()["name"].clone()).await;

    for text in ["Mondays", ""] {
        let set = bench.put("/sessions/alice/profile/status", json!({ "status": text })).await;
        assert_eq!((set.status, bench.world.about(ALICE)), (200, text.to_owned()), "{set:?}");
    }

    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 200, 200);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![200; 200 * 200]).unwrap();
    writer.finish().unwrap();
    let body = json!({ "base64": STANDARD.encode(&png), "mimetype": "image/png" });
    let set = bench.put("/sessions/alice/profile/picture", body).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert!(bench.world.account_picture(ALICE).is_some_and(|jpeg| jpeg.starts_with(b"\xff\xd8")), "a JPEG");
    assert_eq!(bench.delete("/sessions/alice/profile/picture", json!({})).await.status, 200);
    assert_eq!(bench.world.account_picture(ALICE), None);

    for (path, body) in [
        ("name", json!({ "name": "" })),
        ("name", json!({ "name": "a".repeat(26) })),
        ("status", json!({ "status": "a".repeat(140) })),
    ] {
        let answer = bench.put(&format!("/sessions/alice/profile/{path}"), body).await;
        assert_eq!(answer.failure(), (400, "validation_failed"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_says_what_is_there_instead() {
    let bench = Bench::start().await;
    for (method, path) in [
        (Method::GET, "/sessions/alice/channels"),
        (Method::POST, "/sessions/alice/messages/send-template"),
        (Method::GET, "/search"),
    ] {
        let answer = bench.call(method, path, None).await;
        assert_eq!(answer.failure(), (501, "not_supported"), "{answer:?}");
    }
    assert_eq!(bench.get("/sessions/alice/nothing").await.failure(), (404, "route_not_found"));
}
