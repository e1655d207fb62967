//! A group's picture: set from the body or from a URL, read and removed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_simulator::Addressing;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{ALICE, BOB, Bench};

/// A PNG of this size, of one colour.
fn png(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![200; (side * side) as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

fn in_base64(picture: &[u8]) -> Value {
    json!({ "base64": STANDARD.encode(picture), "mimetype": "image/png" })
}

async fn ready_with_group(allow: &str) -> (Bench, String, String) {
    let bench = Bench::with(|config| {
        if !allow.is_empty() {
            config.fetch_allow = allow.parse().unwrap();
        }
    })
    .await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/picture");
    (bench, group, path)
}

/// Serves this PNG for every request. Returns the port.
async fn serve(picture: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", picture.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&picture).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_set_read_and_removed() {
    let (bench, group, path) = ready_with_group("").await;
    let none = bench.get(&path).await;
    assert_eq!((none.status, none.body), (200, json!({ "url": null })));
    let set = bench.put(&path, in_base64(&png(700))).await;
    assert_eq!((set.status, set.body), (200, json!({ "success": true, "message": "Group picture updated" })));
    let id = bench.world.group(&group).unwrap().picture_id.unwrap();
    let url = bench.get(&path).await.body["url"].as_str().unwrap().to_owned();
    assert!(url.contains(&id), "{url}");
    let jpeg = reqwest::get(&url).await.unwrap().bytes().await.unwrap();
    assert!(jpeg.starts_with(&[0xFF, 0xD8, 0xFF]), "a JPEG, whatever it was before");

    let removed = bench.delete(&path, json!({})).await;
    assert_eq!((removed.status, removed.body), (200, json!({ "success": true, "message": "Group picture removed" })));
    assert_eq!(bench.world.group(&group).unwrap().picture_id, None);
    assert_eq!(bench.get(&path).await.body, json!({ "url": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_fetched_from_a_host_that_the_operator_allows() {
    let port = serve(png(300)).await;
    let (bench, group, path) = ready_with_group(&format!("127.0.0.1:{port}")).await;
    let set = bench.put(&path, json!({ "url": format!("http://127.0.0.1:{port}/team.png") })).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert!(bench.world.group(&group).unwrap().picture_id.is_some());
    let (bench, group, path) = ready_with_group("").await;
    let refused = bench.put(&path, json!({ "url": format!("http://127.0.0.1:{port}/team.png") })).await;
    assert_eq!(refused.failure(), (400, "url_not_fetched"), "{refused:?}");
    assert!(bench.world.group(&group).unwrap().picture_id.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_picture_is_named_and_nothing_is_sent() {
    let (bench, group, path) = ready_with_group("").await;
    let cases = [
        (json!({}), "validation_failed"),
        (json!({ "base64": "AAAA" }), "validation_failed"),
        (json!({ "url": 5 }), "validation_failed"),
        (json!({ "base64": "AAAA", "mimetype": "text/plain" }), "invalid_picture"),
        (json!({ "base64": "AAAA", "mimetype": "image/png" }), "invalid_picture"),
        (in_base64(&png(100)), "invalid_picture"),
        (json!({ "url": "file:///etc/passwd" }), "url_not_fetched"),
    ];
    for (body, code) in cases {
        let answer = bench.put(&path, body).await;
        assert_eq!(answer.failure(), (400, code), "{answer:?}");
    }
    assert!(bench.world.group(&group).unwrap().picture_id.is_none());
    assert_eq!(bench.world.requests(ALICE, "w:profile:picture:set"), 0);
    let unknown = bench.put("/sessions/alice/groups/1@g.us/picture", in_base64(&png(200))).await;
    assert_eq!(unknown.failure(), (404, "group_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_several_megabytes_fits_and_is_sent_once_for_one_idempotency_key() {
    let (bench, group, path) = ready_with_group("").await;
    let mut picture = png(400);
    // Bytes after the end of a PNG are not read.
    picture.resize(3 * 1024 * 1024, 0);
    let body = in_base64(&picture);
    for replayed in [false, true] {
        let answer = bench.call_once("k", reqwest::Method::PUT, &path, &body).await;
        assert_eq!((answer.status, answer.replayed), (200, replayed), "{answer:?}");
    }
    assert!(bench.world.group(&group).unwrap().picture_id.is_some());
    assert_eq!(bench.world.requests(ALICE, "w:profile:picture:set"), 1);
    assert_eq!(
        bench.put(&path, json!({ "base64": "A".repeat(7 * 1024 * 1024) })).await.failure(),
        (413, "body_too_large")
    );
}
