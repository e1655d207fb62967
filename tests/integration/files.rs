//! Files of messages: sent in each form, as the phone gets them; fetched, whole or in part; lost and uploaded again.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat};
use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};
use reqwest::Method;
use rookery_simulator::{FileWords, Mail, MediaType, ReceivedMessage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, KEY, until, until_equal};
use crate::receiver::Receiver;
use crate::receiving::revocation;

const MIB: usize = 1024 * 1024;

/// Bytes that are the beginning of no known type.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

fn picture(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(width, height).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A second of a tone.
fn voice_note() -> Vec<u8> {
    let mut encoder = OpusEncoder::new(16_000, 1, Application::Voip).unwrap();
    let mut writer = OggOpusWriter::new(Vec::new(), OpusHead::for_encoder(&encoder, 16_000)).unwrap();
    let mut encoded = vec![0; MAX_PACKET_BYTES];
    for _ in 0..50 {
        let tone: Vec<f32> = (0..320).map(|sample| (sample as f32 * 0.2).sin()).collect();
        let count = encoder.encode(&tone, 320, &mut encoded).unwrap();
        writer.write_packet(&encoded[..count]).unwrap();
    }
    writer.finish().unwrap()
}

fn film() -> Vec<u8> {
    [b"\0\0\0\x18ftypisom\0\0\0\0isomavc1".as_slice(), &bytes(100_000)].concat()
}

async fn send(bench: &Bench, kind: &str, body: Value) -> Answer {
    bench.post(&format!("/sessions/alice/messages/send-{kind}"), body).await
}

/// The parts of a form: name, what else its head says, content.
type Part<'a> = (&'a str, &'a str, &'a [u8]);

/// A form with these parts.
fn form(boundary: &str, parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, more, content) in parts {
        body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n").bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    body
}

/// Posts a form, with an idempotency key if there is one.
async fn post_form(bench: &Bench, kind: &str, once: &str, boundary: &str, parts: &[Part<'_>]) -> Answer {
    let headers =
        [("content-type", format!("multipart/form-data; boundary={boundary}")), ("idempotency-key", once.into())];
    let headers: Vec<_> =
        headers.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, value.as_str())).collect();
    bench
        .raw(KEY, Method::POST, &format!("/sessions/alice/messages/send-{kind}"), &headers, form(boundary, parts))
        .await
        .0
}

/// The message with this id, once the phone has it, and its file.
async fn received(bench: &Bench, phone: &str, sent: &Answer) -> (ReceivedMessage, Vec<u8>) {
    assert_eq!(sent.status, 201, "{sent:?}");
    let id = sent.body["messageId"].as_str().unwrap();
    let look = async || bench.world.messages(phone).into_iter().find(|message| message.id == id);
    let message = until("the message has come", look).await;
    (message, bench.world.media_of(phone, id).unwrap().unwrap())
}

/// Serves this file for every request, as this type. Returns the port.
async fn serve(file: Vec<u8>, mimetype: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let length = file.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {mimetype}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&file).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_each_kind_come_as_they_were_sent_with_what_is_seen_before_they_are_fetched() {
    let (bench, group) = Bench::with_group().await;

    let photo = picture(ImageFormat::Jpeg, 640, 360);
    let text = format!("look @{BOB}");
    let body = json!({
        "chatId": group, "base64": STANDARD.encode(&photo), "mimetype": "image/jpg", "caption": text, "mentions": [BOB],
    });
    let sent = send(&bench, "image", body).await;
    let (message, file) = received(&bench, CAROL, &sent).await;
    assert_eq!((file, message.kind.as_str(), message.mentions.len()), (photo, "image", 1));
    assert_eq!(message.text, Some(format!("look @{}", message.mentions[0].trim_end_matches("@lid"))));
    let content = message.message();
    let image = content.image_message.as_option().unwrap();
    assert_eq!((image.width, image.height, image.mimetype.as_deref()), (Some(640), Some(360), Some("image/jpeg")));
    let thumbnail = image::load_from_memory(image.jpeg_thumbnail.as_ref().unwrap()).unwrap();
    assert_eq!((thumbnail.width(), thumbnail.height()), (100, 56));

    let quoted = sent.body["messageId"].clone();
    let body =
        json!({ "chatId": group, "base64": STANDARD.encode(film()), "caption": "a film", "quotedMessageId": quoted });
    let (message, file) = received(&bench, BOB, &send(&bench, "video", body).await).await;
    assert_eq!((file, message.kind.as_str(), message.text.as_deref()), (film(), "video", Some("a film")));
    assert_eq!(message.quoted.as_deref(), quoted.as_str());

    let note = voice_note();
    let body = json!({ "chatId": DAVE, "base64": STANDARD.encode(&note), "ptt": true });
    let (message, file) = received(&bench, DAVE, &send(&bench, "audio", body).await).await;
    assert_eq!((file, message.kind.as_str()), (note.clone(), "voice"));
    let media = message.media.unwrap();
    assert_eq!((media.seconds, media.waveform_bytes, media.mimetype.as_str()), (Some(1), 64, "audio/ogg; codecs=opus"));

    let body = json!({ "chatId": DAVE, "base64": format!("data:audio/ogg;base64,{}", STANDARD.encode(&note)) });
    let (message, _) = received(&bench, DAVE, &send(&bench, "audio", body).await).await;
    assert_eq!((message.kind.as_str(), message.media.unwrap().waveform_bytes), ("audio", 0));

    let sticker = picture(ImageFormat::WebP, 512, 512);
    let body = json!({ "chatId": DAVE, "base64": STANDARD.encode(&sticker) });
    let (message, file) = received(&bench, DAVE, &send(&bench, "sticker", body).await).await;
    assert_eq!((file, message.kind.as_str()), (sticker, "sticker"));

    // The same name, written in another way.
    let body = format!(r#"{{"chatId":"{DAVE}","b\u0061se64":"YWJj"}}"#).into_bytes();
    let path = "/sessions/alice/messages/send-document";
    let (sent, _) = bench.raw(KEY, Method::POST, path, &[("content-type", "application/json")], body).await;
    assert_eq!(received(&bench, DAVE, &sent).await.1, b"abc");

    let document = bytes(3 * MIB + 7);
    let lines: Vec<String> =
        STANDARD.encode(&document).as_bytes().chunks(76).map(|line| String::from_utf8(line.into()).unwrap()).collect();
    let body = json!({ "base64": lines.join("\r\n"), "filename": "Größe.bin", "chatId": DAVE });
    let sent = send(&bench, "document", body).await;
    let (message, file) = received(&bench, DAVE, &sent).await;
    assert!(file == document && message.kind == "document");
    let media = message.media.unwrap();
    assert_eq!((media.filename.as_deref(), media.mimetype.as_str()), (Some("Größe.bin"), "application/octet-stream"));

    let events = bench.get("/sessions/alice/events?types=message.sent&limit=100").await;
    let last = events.body["events"].as_array().unwrap().last().unwrap()["data"].clone();
    let expected = json!({ "mimetype": "application/octet-stream", "filename": "Größe.bin", "omitted": true, "sizeBytes": 3 * MIB + 7 });
    assert_eq!((&last["id"], &last["media"]), (&sent.body["messageId"], &expected));
    let chat = bench.get(&format!("/sessions/alice/messages?chatId={DAVE}")).await;
    assert_eq!(chat.body["messages"][0]["mediaMimetype"], json!("application/octet-stream"), "{chat:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_in_forms_and_from_urls_too() {
    let pdf = [b"%PDF-1.7 ".as_slice(), &bytes(200_000)].concat();
    let port = serve(pdf.clone(), "text/csv").await;
    let (bench, group) = Bench::with_group_and(|config| config.fetch_allow = "127.0.0.1".parse().unwrap()).await;
    let chat = group.as_bytes();
    let file = ("file", "; filename=\"report.pdf\"\r\nContent-Type: application/pdf", pdf.as_slice());

    let parts = [
        ("chatId", "", chat),
        ("caption", "", "für alle".as_bytes()),
        ("mentions", "", BOB.as_bytes()),
        ("mentions", "", CAROL.as_bytes()),
        file,
    ];
    let (message, content) = received(&bench, BOB, &post_form(&bench, "document", "", "x", &parts).await).await;
    assert_eq!((content, message.mentions.len(), message.text.as_deref()), (pdf.clone(), 2, Some("für alle")));
    let media = message.media.unwrap();
    assert_eq!((media.filename.as_deref(), media.mimetype.as_str()), (Some("report.pdf"), "application/pdf"));
    // What a part of its own says comes before what the file's part says.
    let parts = [file, ("filename", "", b"other.pdf"), ("chatId", "", chat), ("mentions", "", br#"["15550100002"]"#)];
    let (message, _) = received(&bench, BOB, &post_form(&bench, "document", "", "y", &parts).await).await;
    assert_eq!((message.media.unwrap().filename.as_deref(), message.mentions.len()), (Some("other.pdf"), 1));

    let url = format!("http://127.0.0.1:{port}/files/j%C3%A4n.pdf?token=a");
    let sent = send(&bench, "document", json!({ "chatId": group, "url": url })).await;
    let (message, content) = received(&bench, BOB, &sent).await;
    let media = message.media.unwrap();
    assert_eq!((content, media.filename.as_deref()), (pdf, Some("jän.pdf")));
    assert_eq!(media.mimetype, "application/pdf", "what the file shows comes before what its host says");
    let wrong = send(&bench, "image", json!({ "chatId": group, "url": url })).await;
    assert_eq!(wrong.failure(), (400, "invalid_file"), "{wrong:?}");
    let gone = send(&bench, "image", json!({ "chatId": group, "url": "http://127.0.0.1:1/a.png" })).await;
    assert_eq!(gone.failure(), (400, "url_not_fetched"), "{gone:?}");
    let inside = send(&bench, "image", json!({ "chatId": group, "url": "http://10.0.0.1/a.png" })).await;
    assert_eq!(inside.failure(), (400, "url_not_fetched"), "{inside:?}");
}

async fn limited_to_100_kb() -> (Bench, String) {
    Bench::with_group_and(|config| config.http.limits.media_body_bytes_max = 100_000).await
}

/// Sends what is to be refused: the kind, its body, the status with the code, and a part of the text.
async fn refused(bench: &Bench, cases: &[(&str, Value, (u16, &str), &str)]) {
    for (kind, body, failure, text) in cases {
        let answer = send(bench, kind, body.clone()).await;
        assert_eq!(answer.failure(), *failure, "{answer:?}");
        assert!(answer.body["message"].to_string().contains(text), "{text}: {answer:?}");
    }
    assert_eq!((bench.world.media_stored().0, bench.world.requests(ALICE, "message")), (0, 0), "nothing was uploaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_shown_is_refused_by_the_name_of_its_field() {
    let (bench, group) = limited_to_100_kb().await;
    let photo = STANDARD.encode(picture(ImageFormat::Png, 10, 10));
    let broken = STANDARD.encode(&picture(ImageFormat::Png, 100, 100)[..60]);
    let (of, invalid) = (|base64: &str| json!({ "chatId": group, "base64": base64 }), (400, "invalid_file"));
    let cases = [
        ("image", of("a b!"), invalid, "base64 must be"),
        ("image", of("aGVsbG8="), invalid, "the file must hold a JPEG"),
        ("image", of(&broken), invalid, "a file that is broken"),
        (
            "image",
            json!({ "chatId": group, "base64": photo, "mimetype": "image/jpeg" }),
            invalid,
            "mimetype is image/jpeg, but the file holds image/png",
        ),
        (
            "audio",
            json!({ "chatId": group, "base64": STANDARD.encode(b"ID3\x04\0\0\0\0\0\0"), "ptt": true }),
            invalid,
            "voice note",
        ),
        ("sticker", of(&photo), invalid, "WebP"),
        ("document", of(&STANDARD.encode(bytes(100_001))), (413, "file_too_large"), "100000"),
    ];
    refused(&bench, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_or_a_chat_that_cannot_be_used_is_refused_before_anything_is_uploaded() {
    let (bench, group) = limited_to_100_kb().await;
    let photo = STANDARD.encode(picture(ImageFormat::Png, 10, 10));
    let to = |chat: &str| json!({ "chatId": chat, "base64": photo });
    let long = "a".repeat(1_100_000);
    let validation = (400, "validation_failed");
    let cases = [
        ("image", json!({ "chatId": group }), validation, "base64, url, or a form"),
        ("image", json!({ "chatId": group, "base64": "" }), validation, "base64, url, or a form"),
        ("image", json!({ "chatId": group, "base64": null, "url": 5 }), validation, "url must be a string"),
        ("image", json!({ "chatId": group, "base64": photo, "ptt": true }), validation, "ptt can only"),
        ("image", json!({ "chatId": group, "base64": photo, "filename": "a\nb" }), validation, "filename must not"),
        ("image", json!({ "chatId": group, "base64": photo, "size": 1 }), validation, "property size"),
        ("audio", json!({ "chatId": group, "base64": photo, "caption": "a" }), validation, "caption is shown"),
        ("document", json!({ "chatId": group, "base64": photo, "filename": long }), (413, "body_too_large"), "1048576"),
        ("image", to("x"), (400, "invalid_chat_id"), "x is not a chat id"),
        ("image", to("120363999999999999@g.us"), (404, "group_not_found"), "not found"),
        ("image", to("15550100099"), (404, "not_on_whatsapp"), "no WhatsApp account"),
        (
            "image",
            json!({ "chatId": group, "base64": photo, "quotedMessageId": "3EB0" }),
            (404, "message_not_found"),
            "3EB0",
        ),
    ];
    refused(&bench, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_read_is_refused_and_says_why() {
    let (bench, group) = limited_to_100_kb().await;
    let (chat, file): (Part<'_>, Part<'_>) = (("chatId", "", group.as_bytes()), ("file", "; filename=\"a\"", b"abc"));
    let forms: [(&[Part<'_>], &str); 5] = [
        (&[chat, file, file], "more than one file"),
        (&[chat, ("base64", "", b"YWJj")], "its file is the part `file`"),
        (&[chat, ("file", "; filename=\"a\"", b"")], "base64, url, or a form"),
        (&[chat, ("", "", b"a")], "has no name"),
        (&[chat, file, ("caption", "", b"\xff")], "not UTF-8"),
    ];
    for (parts, text) in forms {
        let answer = post_form(&bench, "document", "", "x", parts).await;
        assert!(answer.status == 400 && answer.body["message"].to_string().contains(text), "{text}: {answer:?}");
    }
    let long = "a".repeat(200_000);
    let heads: [&[Part<'_>]; 2] = [
        &[chat, ("file", &format!("; filename=\"a\"\r\nX-Y: {long}"), b"abc")],
        &[("chatId", &format!("; x={long}"), b"")],
    ];
    for parts in heads {
        let answer = post_form(&bench, "document", "", "x", parts).await;
        assert!(
            answer.status == 400 && answer.body["message"].to_string().contains("the head of a part"),
            "{answer:?}"
        );
    }
    let whole = form("x", &[chat, file]);
    let around = [[long.as_bytes(), b"\r\n", &whole].concat(), [&whole, long.as_bytes()].concat()];
    for body in around {
        let headers = [("content-type", "multipart/form-data; boundary=x")];
        let (answer, _) = bench.raw(KEY, Method::POST, "/sessions/alice/messages/send-document", &headers, body).await;
        assert_eq!(answer.failure(), (400, "invalid_form"), "{answer:?}");
    }
    let cut = whole[..whole.len() - 20].to_vec();
    for (content_type, body) in [
        ("multipart/form-data", whole.clone()),
        ("multipart/form-data; boundary=y", whole),
        ("multipart/form-data; boundary=x", cut),
    ] {
        let path = "/sessions/alice/messages/send-document";
        let (answer, _) = bench.raw(KEY, Method::POST, path, &[("content-type", content_type)], body).await;
        assert_eq!(answer.failure(), (400, "invalid_form"), "{answer:?}");
    }
    assert_eq!((bench.world.media_stored().0, bench.world.requests(ALICE, "message")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_form_is_the_same_request_and_sends_nothing_twice() {
    let (bench, group) = Bench::with_group().await;
    let (chat, file): (Part<'_>, Part<'_>) =
        (("chatId", "", group.as_bytes()), ("file", "; filename=\"a.txt\"", b"abc"));
    let first = post_form(&bench, "document", "once", "first", &[chat, file]).await;
    assert_eq!(first.status, 201, "{first:?}");
    let again = post_form(&bench, "document", "once", "second", &[file, chat]).await;
    assert_eq!((again.status, again.replayed, &again.body), (201, true, &first.body));
    let other = post_form(&bench, "document", "once", "third", &[chat, ("file", "; filename=\"a.txt\"", b"abd")]).await;
    assert_eq!(other.failure(), (422, "idempotency_key_reused"), "{other:?}");
    received(&bench, BOB, &first).await;
    assert_eq!((bench.world.messages(BOB).len(), bench.world.media_stored().0), (1, 1));
}

/// The file of a message: status, its bytes, and the answer's headers.
async fn media(bench: &Bench, chat: &str, id: &str, headers: &[(&str, &str)]) -> (Answer, Vec<u8>) {
    bench.raw(KEY, Method::GET, &format!("/sessions/alice/messages/{chat}/{id}/media"), headers, Vec::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_message_is_fetched_whole_or_in_part_and_not_again_by_who_has_it() {
    let (bench, group) = Bench::with_group().await;
    let file = bytes(2 * MIB + 5);
    let uploaded = bench.world.upload(MediaType::Document, &file).unwrap();
    let words =
        FileWords { mimetype: "text/html".into(), filename: Some("a \"b\" ü.html".into()), ..FileWords::default() };
    let id = bench.world.send(BOB, &group, Mail::file(MediaType::Document, &uploaded, words)).unwrap();
    until_equal(200, async || bench.get(&format!("/sessions/alice/messages/{group}/{id}/reactions")).await.status)
        .await;

    let (whole, content) = media(&bench, &group, &id, &[]).await;
    assert!(whole.status == 200 && content == file, "{} bytes: {whole:?}", content.len());
    assert_eq!((whole.header("content-type"), whole.header("accept-ranges")), ("text/html", "bytes"));
    assert_eq!(whole.header("content-length"), file.len().to_string());
    assert_eq!(whole.header("content-disposition"), "attachment; filename*=UTF-8''a%20%22b%22%20%C3%BC.html");
    assert!(whole.header("content-security-policy").starts_with("sandbox;"), "{whole:?}");
    let tag = whole.header("etag").to_owned();

    let (part, content) = media(&bench, &group, &id, &[("range", "bytes=1000001-1000100")]).await;
    assert_eq!((part.status, content.as_slice()), (206, &file[1_000_001..=1_000_100]));
    assert_eq!(part.header("content-range"), format!("bytes 1000001-1000100/{}", file.len()));
    let (end, content) = media(&bench, &group, &id, &[("range", "bytes=-5")]).await;
    assert_eq!((end.status, content.as_slice()), (206, &file[file.len() - 5..]));
    let (beyond, _) = media(&bench, &group, &id, &[("range", "bytes=9999999-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{}", file.len()).as_str()));
    let (other, content) = media(&bench, &group, &id, &[("range", "bytes=0-1"), ("if-range", "\"x\"")]).await;
    assert!(other.status == 200 && content == file, "it is another file than the caller thinks");

    bench.world.expire_media();
    let (known, _) = media(&bench, &group, &id, &[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.header("etag")), (304, tag.as_str()), "WhatsApp was not asked");
    // It is gone there, and the phone uploads it again.
    let (again, content) = media(&bench, &group, &id, &[]).await;
    assert!(again.status == 200 && content == file, "{again:?}");
    assert_eq!(bench.world.requests(ALICE, "media_retry"), 1);

    let sent =
        send(&bench, "document", json!({ "chatId": DAVE, "base64": STANDARD.encode(b"own"), "filename": "o.txt" }))
            .await;
    let (own, content) = media(&bench, DAVE, sent.body["messageId"].as_str().unwrap(), &[]).await;
    assert_eq!((own.status, content.as_slice()), (200, b"own".as_slice()), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_is_said_to_be_gone_damaged_too_large_or_not_one() {
    let (bench, group) = Bench::with_group_and(|config| config.http.limits.media_body_bytes_max = 100_000).await;
    let write = async |length: usize, spoil: &dyn Fn(&mut rookery_simulator::Uploaded)| {
        let mut uploaded = bench.world.upload(MediaType::Image, &bytes(length)).unwrap();
        spoil(&mut uploaded);
        let words = FileWords { mimetype: "image/png".into(), ..FileWords::default() };
        let id = bench.world.send(BOB, &group, Mail::file(MediaType::Image, &uploaded, words)).unwrap();
        until_equal(200, async || bench.get(&format!("/sessions/alice/messages/{group}/{id}/reactions")).await.status)
            .await;
        id
    };
    let damaged = write(50_000, &|file| file.file_sha256[0] ^= 1).await;
    assert_eq!(media(&bench, &group, &damaged, &[]).await.0.failure(), (502, "file_damaged"));
    let damaged = write(50_000, &|file| file.media_key[0] ^= 1).await;
    assert_eq!(media(&bench, &group, &damaged, &[]).await.0.failure(), (502, "file_damaged"));
    let large = write(100_001, &|_| {}).await;
    assert_eq!(media(&bench, &group, &large, &[]).await.0.failure(), (413, "file_too_large"));
    let large = write(200_001, &|file| file.file_length = 1).await;
    assert_eq!(media(&bench, &group, &large, &[]).await.0.failure(), (413, "file_too_large"), "whatever it says");
    // Nobody has a file there.
    let gone = write(10, &|file| file.direct_path = "/v/nothing".into()).await;
    assert_eq!(media(&bench, &group, &gone, &[]).await.0.failure(), (410, "file_gone"));
    // A path that would lead to another host leads nowhere.
    let receiver = Receiver::start().await;
    let port = receiver.port;
    for path in [format!("@127.0.0.1:{port}/x"), format!("@127.0.0.1:{port}/x#")] {
        let elsewhere = write(10, &|file| file.direct_path = path.clone()).await;
        assert_eq!(media(&bench, &group, &elsewhere, &[]).await.0.failure(), (410, "file_gone"), "{path}");
    }
    assert_eq!(receiver.connections(), 0);

    let text = send(&bench, "text", json!({ "chatId": group, "text": "no file" })).await.body["messageId"].clone();
    assert_eq!(media(&bench, &group, text.as_str().unwrap(), &[]).await.0.failure(), (404, "no_media"));
    assert_eq!(media(&bench, &group, "3EB0", &[]).await.0.failure(), (404, "message_not_found"));
    let revoked = write(10, &|_| {}).await;
    bench.world.send(BOB, &group, revocation(&group, &revoked, None)).unwrap();
    until_equal((400, "message_deleted".to_owned()), async || {
        let (answer, _) = media(&bench, &group, &revoked, &[]).await;
        (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
    })
    .await;
}

/// Bob writes a document of this length to the group; its id.
fn write_document(bench: &Bench, group: &str, length: usize) -> String {
    let uploaded = bench.world.upload(MediaType::Document, &bytes(length)).unwrap();
    let words = FileWords { mimetype: "text/csv".into(), filename: Some("a.csv".into()), ..FileWords::default() };
    bench.world.send(BOB, group, Mail::file(MediaType::Document, &uploaded, words)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_in_deliveries_and_histories_that_ask_for_them() {
    let receiver = Receiver::start().await;
    let allowed = format!("127.0.0.1:{}", receiver.port).parse().unwrap();
    let (bench, group) = Bench::with_group_and(|config| config.fetch_allow = allowed).await;
    for (path, include) in [("/with", true), ("/without", false)] {
        let hook = json!({ "url": receiver.url(path), "events": ["message.received"], "includeMedia": include });
        assert_eq!(bench.post("/sessions/alice/webhooks", hook).await.status, 201);
    }
    let small = write_document(&bench, &group, 1_000);
    write_document(&bench, &group, MIB + 1);
    let arrived = until("deliveries", async || Some(receiver.arrived()).filter(|arrived| arrived.len() == 4)).await;
    let media_at = |path: &str| -> Vec<Value> {
        arrived.iter().filter(|one| one.path == path).map(|one| one.body["data"]["media"].clone()).collect()
    };
    let described =
        |size: usize| json!({ "mimetype": "text/csv", "filename": "a.csv", "omitted": true, "sizeBytes": size });
    let data = STANDARD.encode(bytes(1_000));
    let whole = json!({ "mimetype": "text/csv", "filename": "a.csv", "sizeBytes": 1_000, "data": data });
    assert_eq!(media_at("/without"), [described(1_000), described(MIB + 1)]);
    assert_eq!(media_at("/with"), [whole.clone(), described(MIB + 1)]);

    let path = format!("/sessions/alice/messages/{group}/history");
    let media = async |query: &str| bench.get(&format!("{path}{query}")).await.body[1]["media"].clone();
    assert_eq!((media("").await, media("?includeMedia=true").await), (described(1_000), whole));
    assert_eq!(bench.get(&format!("{path}?includeMedia=maybe")).await.failure(), (400, "invalid_parameter"));
    // What cannot be fetched is described.
    bench.world.send(BOB, &group, revocation(&group, &small, None)).unwrap();
    until_equal(json!("revoked"), async || bench.get(&path).await.body[1]["type"].clone()).await;
    let last = bench.get(&format!("{path}?includeMedia=true")).await.body;
    assert_eq!((&last[1]["media"], &last[0]["media"]), (&Value::Null, &described(MIB + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_fetched_is_kept_when_the_operator_wants_that() {
    for (mib, fetched_again) in [(0, 1), (8, 0)] {
        let (bench, group) = Bench::with_group_and(|config| config.http.limits.media_cache_mib = mib).await;
        let id = write_document(&bench, &group, 100_000);
        until_equal(200, async || media(&bench, &group, &id, &[]).await.0.status).await;
        // It is gone at WhatsApp.
        bench.world.expire_media();
        let (again, content) = media(&bench, &group, &id, &[]).await;
        assert!(again.status == 200 && content == bytes(100_000), "{again:?}");
        assert_eq!(bench.world.requests(ALICE, "media_retry"), fetched_again);
        assert_eq!(
            std::fs::read_dir(bench.data_dir())
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("spool") })
                .count(),
            0
        );
    }
}
