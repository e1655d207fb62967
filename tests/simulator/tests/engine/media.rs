//! Files of messages: uploaded, fetched, lost and uploaded again.

use rookery_simulator::{FileWords, Mail, MediaType};
use whatsapp_rust::Jid;
use whatsapp_rust::prelude::*;
use whatsapp_rust::upload::{UploadOptions, UploadResponse};
use whatsapp_rust::{MediaRetryResult, MediaReuploadRequest};

use crate::support::{Session, http_status, simulator, until};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
/// Not a multiple of a cipher's block.
const FILE_BYTES: usize = 3 * 1024 * 1024 + 7;

fn file() -> Vec<u8> {
    (0..FILE_BYTES).map(|index| (index % 251) as u8).collect()
}

fn image(uploaded: &UploadResponse) -> wa::Message {
    let image = wa::message::ImageMessage {
        url: Some(uploaded.url.clone()),
        direct_path: Some(uploaded.direct_path.clone()),
        media_key: Some(uploaded.media_key.to_vec()),
        file_sha256: Some(uploaded.file_sha256.to_vec()),
        file_enc_sha256: Some(uploaded.file_enc_sha256.to_vec()),
        file_length: Some(uploaded.file_length),
        mimetype: Some("image/jpeg".into()),
        caption: Some("look".into()),
        ..Default::default()
    };
    wa::Message { image_message: MessageField::some(image), ..Default::default() }
}

#[tokio::test]
async fn a_file_goes_from_device_to_phone_and_back() {
    let simulator = simulator().await;
    let world = simulator.world();
    let alice = Session::linked(&simulator, ALICE).await;
    world.phone(BOB);
    // The word that admits uploads is void at the first try: the client asks for another.
    alice.client.refresh_media_conn(false).await.expect("answered");
    world.expire_media_auth();

    let uploaded = alice.client.upload(file(), MediaType::Image, UploadOptions::default()).await.expect("uploaded");
    let id = alice.client.send_message(Jid::pn(BOB), image(&uploaded)).await.expect("sent").message_id;

    until("the picture", || world.messages(BOB).len() == 1).await;
    let received = world.messages(BOB).remove(0);
    assert_eq!((received.kind.as_str(), received.text.as_deref()), ("image", Some("look")));
    let media = received.media.expect("a file");
    assert_eq!((media.mimetype.as_str(), media.bytes), ("image/jpeg", FILE_BYTES as u64));
    assert!(world.media_of(BOB, &id).expect("there") == Some(file()));

    let back = world.upload(MediaType::Document, &file()).expect("uploaded");
    let words = FileWords { mimetype: "text/plain".into(), filename: Some("notes.txt".into()), ..Default::default() };
    let id = world.send(BOB, ALICE, Mail::file(MediaType::Document, &back, words)).expect("sent");
    let message = alice.message(&id).await;
    let document = message.document_message.as_option().expect("a document");
    assert_eq!(document.file_name.as_deref(), Some("notes.txt"));
    assert!(alice.client.download(document).await.expect("fetched") == file());
    alice.stop().await;
}

#[tokio::test]
async fn a_lost_file_is_uploaded_again_by_the_phone_that_has_the_message() {
    let simulator = simulator().await;
    let world = simulator.world();
    let alice = Session::linked(&simulator, ALICE).await;
    let file = b"a picture".to_vec();
    let uploaded = world.upload(MediaType::Image, &file).expect("uploaded");
    let words = FileWords { mimetype: "image/png".into(), ..Default::default() };
    let id = world.send(BOB, ALICE, Mail::file(MediaType::Image, &uploaded, words)).expect("sent");
    let message = alice.message(&id).await;
    assert_eq!(http_status(&uploaded.url).await, 200);

    world.expire_media();

    assert_eq!(http_status(&uploaded.url).await, 410);
    assert!(alice.client.download(message.image_message.as_option().expect("an image")).await.is_err());
    let chat = Jid::pn(BOB);
    let request = |id| MediaReuploadRequest {
        msg_id: id,
        chat_jid: &chat,
        media_key: &uploaded.media_key,
        is_from_me: false,
        participant: None,
    };
    let again = alice.client.media_reupload().request(&request(&id)).await.expect("answered");
    let MediaRetryResult::Success { direct_path } = again else { panic!("{again:?}") };
    let mut image = message.image_message.as_option().expect("an image").clone();
    (image.direct_path, image.url) = (Some(direct_path), None);
    assert_eq!(alice.client.download(&image).await.expect("fetched"), file);
    let unknown = alice.client.media_reupload().request(&request("3EB0UNKNOWN")).await.expect("answered");
    assert!(matches!(unknown, MediaRetryResult::NotFound), "{unknown:?}");
    alice.stop().await;
}
