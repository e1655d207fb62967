//! Looks at files that are made here.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};
use rookery_model::SessionId;
use uuid::Uuid;

use super::*;
use crate::picture::tests::with_orientation;
use crate::url_fetch::Guard;

struct Bench {
    media: Media,
    _directory: tempfile::TempDir,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(Guard::new("127.0.0.1".parse().unwrap())).unwrap();
    Bench { media: Media::new(directory.path(), &HttpLimits::default(), fetcher), _directory: directory }
}

fn user() -> User {
    User { key: Uuid::new_v4(), session: SessionId::random() }
}

impl Bench {
    async fn described(&self, kind: FileKind, content: &[u8]) -> Result<Description, MediaError> {
        let sink = self.media.sink(kind, user()).unwrap();
        let file = sink.write(content).await.unwrap().finish().await.unwrap();
        self.media.describe(&file, "the file", Said::default()).await
    }
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(width, height).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn a_photo_is_seen_as_its_camera_was_held() {
    let bench = bench();
    for (orientation, size, thumbnail) in [(1, (400, 200), (100, 50)), (6, (200, 400), (50, 100))] {
        let described =
            bench.described(FileKind::Image, &with_orientation(&jpeg(400, 200), orientation)).await.unwrap();
        assert_eq!(described.preview.size, Some(size));
        let small = image::load_from_memory(&described.preview.thumbnail.unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), thumbnail);
    }
}

#[tokio::test]
async fn a_picture_that_is_too_large_to_be_decoded_is_sent_without_a_thumbnail() {
    // A head that says 8,000 x 8,000 pixels: nobody decodes what follows.
    let mut huge = jpeg(16, 16);
    let frame = huge.windows(2).position(|mark| mark == [0xff, 0xc0]).unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0x1f, 0x40, 0x1f, 0x40]);
    let described = bench().described(FileKind::Image, &huge).await.unwrap();
    assert_eq!((described.preview.size, described.preview.thumbnail), (Some((8_000, 8_000)), None));
}

#[tokio::test]
async fn files_without_a_name_get_one_and_empty_ones_are_refused() {
    let bench = bench();
    let named = async |content: &[u8]| bench.described(FileKind::Document, content).await.map(|found| found.filename);
    assert_eq!(named(b"%PDF-1.7").await, Ok(Some("file.pdf".into())));
    assert_eq!(named(b"abc").await, Ok(Some("file".into())));
    assert_eq!(named(b"").await, Err(MediaError::Empty { field: "the file" }));
}

#[tokio::test]
async fn nobody_takes_all_transfers() {
    let (bench, greedy) = (bench(), user());
    let taken: Vec<_> = std::iter::from_fn(|| bench.media.admit_send(greedy).ok()).collect();
    assert_eq!(taken.len(), TRANSFERS_OF_PAIR_MAX);
    assert!(bench.media.admit_send(User { key: Uuid::new_v4(), ..greedy }).is_ok(), "others in the same session");
    assert!(bench.media.admit_send(User { session: SessionId::random(), ..greedy }).is_ok(), "and elsewhere");
    assert!(bench.media.admit_fetch(greedy).is_ok(), "and to fetch");
    drop(taken);
    assert!(bench.media.admit_send(greedy).is_ok());
}
