//! Prepares pictures that are made here, in each format.

use base64::engine::general_purpose::{STANDARD as PADDED, STANDARD_NO_PAD, URL_SAFE};
use image::{Rgba, RgbaImage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use rookery_model::SessionId;
use uuid::Uuid;

use super::*;
use crate::url_fetch::Guard;

const RED: Rgba<u8> = Rgba([220, 20, 20, 255]);
const BLUE: Rgba<u8> = Rgba([20, 20, 220, 255]);

/// The left half red, the right half blue.
fn halves(width: u32, height: u32) -> DynamicImage {
    RgbaImage::from_fn(width, height, |x, _| if x < width / 2 { RED } else { BLUE }).into()
}

fn written(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = if format == ImageFormat::Jpeg { picture.to_rgb8().into() } else { picture.clone() };
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn user() -> User {
    User { key: Uuid::new_v4(), session: SessionId::random() }
}

fn pictures() -> Pictures {
    Pictures::new(Fetcher::new(Guard::new("127.0.0.1".parse().unwrap())).unwrap())
}

async fn prepare(bytes: &[u8], mimetype: &str) -> Result<Vec<u8>, PictureError> {
    pictures().prepare(PictureSource::Base64 { data: PADDED.encode(bytes), mimetype: mimetype.into() }, user()).await
}

async fn prepared(bytes: &[u8], mimetype: &str) -> RgbImage {
    let jpeg = prepare(bytes, mimetype).await.unwrap();
    assert_eq!(image::guess_format(&jpeg).unwrap(), ImageFormat::Jpeg);
    assert!(jpeg.len() <= OUTPUT_BYTES_MAX, "{} bytes", jpeg.len());
    image::load_from_memory(&jpeg).unwrap().to_rgb8()
}

/// Whether a JPEG's pixel is about this color.
fn is(picture: &RgbImage, (x, y): (u32, u32), color: Rgba<u8>) -> bool {
    let near = |(found, expected): (&u8, &u8)| found.abs_diff(*expected) < 40;
    picture.get_pixel(x, y).0.iter().zip(&color.0).all(near)
}

#[tokio::test]
async fn every_format_becomes_a_square_jpeg_cut_from_the_middle() {
    let formats = [
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Jpeg, "image/JPG"),
        (ImageFormat::Png, "image/png; charset=binary"),
        (ImageFormat::WebP, "image/webp"),
        (ImageFormat::Gif, "image/gif"),
    ];
    for (format, mimetype) in formats {
        for (width, height, side) in [(900, 700, 640), (2000, 1400, 640), (300, 400, 300), (192, 192, 192)] {
            let picture = prepared(&written(&halves(width, height), format), mimetype).await;
            assert_eq!(picture.dimensions(), (side, side), "{mimetype} {width} x {height}");
            assert!(is(&picture, (side / 2 - 20, side / 2), RED), "{mimetype}: the middle stays in the middle");
            assert!(is(&picture, (side / 2 + 20, side / 2), BLUE), "{mimetype}: the middle stays in the middle");
        }
    }
}

#[tokio::test]
async fn what_is_transparent_becomes_white() {
    let clear = DynamicImage::from(RgbaImage::from_pixel(200, 200, Rgba([0, 0, 0, 0])));
    let picture = prepared(&written(&clear, ImageFormat::Png), "image/png").await;
    assert!(is(&picture, (100, 100), Rgba([255; 4])));
}

/// A JPEG with an EXIF block that gives its orientation.
pub(crate) fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let tiff = [
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01".as_slice(),
        &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let length = u16::try_from(tiff.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat()
}

#[tokio::test]
async fn a_photo_that_lies_is_stood_up_and_its_metadata_is_gone() {
    let jpeg = written(&halves(400, 300), ImageFormat::Jpeg);
    // 6: to be turned by 90 degrees clockwise, so that the left comes to the top.
    let turned = with_orientation(&jpeg, 6);
    let picture = prepared(&turned, "image/jpeg").await;
    assert!(is(&picture, (150, 50), RED) && is(&picture, (150, 250), BLUE));
    let sent = prepare(&turned, "image/jpeg").await.unwrap();
    assert!(!sent.windows(4).any(|bytes| bytes == b"Exif"));
    let upright = prepared(&with_orientation(&jpeg, 1), "image/jpeg").await;
    assert!(is(&upright, (50, 150), RED) && is(&upright, (250, 150), BLUE));
}

#[tokio::test]
async fn noise_is_written_at_a_lower_quality() {
    // An xorshift from a fixed seed: nothing compresses worse.
    let mut state = 88_172_645_463_325_252_u64;
    let noise = RgbImage::from_fn(640, 640, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [a, b, c, ..] = state.to_le_bytes();
        image::Rgb([a, b, c])
    });
    let jpeg = encode(&noise).unwrap();
    let mut best = Vec::new();
    JpegEncoder::new_with_quality(&mut best, QUALITIES[0]).encode_image(&noise).unwrap();
    assert!(jpeg.len() < best.len() && best.len() > OUTPUT_BYTES_MAX, "{} {}", jpeg.len(), best.len());
}

#[tokio::test]
async fn what_is_no_usable_picture_is_refused_by_its_field() {
    let png = written(&halves(200, 200), ImageFormat::Png);
    let small = written(&halves(191, 900), ImageFormat::Png);
    let (field, width, height) = ("base64", 191, 900);
    let other = PictureError::OtherMimetype { said: "image/jpeg", found: "image/png" };
    let cases = [
        (&png[..], "image/jpeg", other),
        (&png[..], "image/svg+xml", PictureError::Mimetype),
        (&png[..], "", PictureError::Mimetype),
        (&small[..], "image/png", PictureError::TooFewPixels { field, width, height }),
        (&png[..png.len() / 2], "image/png", PictureError::Unreadable { field }),
        (b"<svg/>", "image/png", PictureError::Unreadable { field }),
        (b"", "image/png", PictureError::Unreadable { field }),
        (b"BM but a bitmap is not taken", "image/png", PictureError::Unreadable { field }),
    ];
    for (bytes, mimetype, expected) in cases {
        assert_eq!(prepare(bytes, mimetype).await, Err(expected), "{mimetype}");
    }
}

/// The head of a PNG of this size, without any pixels.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend_from_slice(&width.to_be_bytes());
    chunk.extend_from_slice(&height.to_be_bytes());
    chunk.extend_from_slice(&[8, 6, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend_from_slice(&chunk);
    bytes.extend_from_slice(&(!crc).to_be_bytes());
    // The decoder reads on to the first pixels before it reports the size.
    bytes.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    bytes
}

#[tokio::test]
async fn a_decompression_bomb_is_refused_by_its_head() {
    let field = "base64";
    let bomb = prepare(&png_head(19_000, 19_000), "image/png").await;
    assert_eq!(bomb, Err(PictureError::TooManyPixels { field, width: 19_000, height: 19_000 }));
    let wide = prepare(&png_head(2_000_000_000, 2), "image/png").await;
    assert_eq!(wide, Err(PictureError::Unreadable { field }));
}

#[test]
fn base64_is_read_with_and_without_padding_and_as_a_data_url() {
    let bytes = b"\xff\xfe picture".to_vec();
    let (padded, bare) = (PADDED.encode(&bytes), STANDARD_NO_PAD.encode(&bytes));
    assert_ne!(padded, bare);
    for data in [&padded, &bare, &format!("data:image/png;base64,{padded}"), &format!("data:;base64,{bare}")] {
        assert_eq!(decode_base64(data).as_ref(), Ok(&bytes), "{data}");
    }
    for data in ["data:image/png,x", "not base64", &URL_SAFE.encode(&bytes)] {
        assert_eq!(decode_base64(data), Err(PictureError::Base64), "{data}");
    }
    let large = PADDED.encode(vec![0; INPUT_BYTES_MAX + 1]);
    assert_eq!(decode_base64(&large), Err(PictureError::TooLarge { field: "base64" }));
    assert_eq!(decode_base64(&PADDED.encode(vec![0; INPUT_BYTES_MAX])).map(|bytes| bytes.len()), Ok(INPUT_BYTES_MAX));
}

/// A server on loopback that answers once with these bytes.
async fn serve(body: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/picture", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
    });
    url
}

#[tokio::test]
async fn a_picture_is_fetched_and_known_by_its_bytes() {
    let field = "url";
    let url = serve(written(&halves(300, 300), ImageFormat::WebP)).await;
    let jpeg = pictures().prepare(PictureSource::Url(url), user()).await.unwrap();
    assert_eq!(image::load_from_memory(&jpeg).unwrap().to_rgb8().dimensions(), (300, 300));
    let page = pictures().prepare(PictureSource::Url(serve(b"<html>".to_vec()).await), user()).await;
    assert_eq!(page, Err(PictureError::Unreadable { field }));
    let large = pictures().prepare(PictureSource::Url(serve(vec![0; INPUT_BYTES_MAX + 1]).await), user()).await;
    assert_eq!(large, Err(PictureError::TooLarge { field }));
    let own = pictures().prepare(PictureSource::Url("http://169.254.169.254/".into()), user()).await.unwrap_err();
    assert!(own.to_string().starts_with("url leads to `169.254.169.254`, which is not a public address"), "{own}");
}

#[tokio::test]
async fn one_key_or_session_that_has_many_pictures_leaves_room_for_others() {
    let pictures = pictures();
    let source = || PictureSource::Base64 { data: String::new(), mimetype: "image/png".into() };
    let (flooding, stranger) = (user(), user());
    let mut held: Vec<_> = std::iter::from_fn(|| pictures.admitted.take(flooding)).collect();
    assert_eq!(held.len(), PICTURES_MAX / 2);
    for user in [flooding, User { key: flooding.key, ..stranger }, User { key: stranger.key, ..flooding }] {
        assert_eq!(pictures.prepare(source(), user).await, Err(PictureError::Busy));
    }
    let unreadable = Err(PictureError::Unreadable { field: "base64" });
    assert_eq!(pictures.prepare(source(), stranger).await, unreadable, "it was looked at");
    held.clear();
    assert_eq!(pictures.prepare(source(), flooding).await, unreadable);
}

#[tokio::test]
async fn slow_urls_of_one_key_leave_fetches_to_others() {
    let (pictures, flooding) = (Arc::new(pictures()), user());
    // Accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/picture", silent.local_addr().unwrap());
    let fetches: Vec<_> = (0..FETCHES_MAX)
        .map(|_| {
            let (pictures, url) = (Arc::clone(&pictures), url.clone());
            tokio::spawn(async move { pictures.prepare(PictureSource::Url(url), flooding).await })
        })
        .collect();
    for _ in 0..FETCHES_MAX / 2 {
        let _ = silent.accept().await.unwrap();
    }
    let quick = serve(written(&halves(300, 300), ImageFormat::Png)).await;
    assert!(pictures.prepare(PictureSource::Url(quick), user()).await.is_ok());
    fetches.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn pictures_that_are_slow_to_decode_leave_a_decoder_to_others() {
    let (pictures, flooding) = (Arc::new(pictures()), user());
    let png = PADDED.encode(written(&halves(300, 300), ImageFormat::Png));
    let source = PictureSource::Base64 { data: png, mimetype: "image/png".into() };
    // One of its pictures is being decoded, for as long as this test likes.
    let first = pictures.admitted.take(flooding).unwrap();
    let (_turn, _decoder) = (first.turns().await, pictures.decoded.clone().acquire_owned().await);
    let waiting = tokio::spawn({
        let (pictures, source) = (Arc::clone(&pictures), source.clone());
        async move { pictures.prepare(source, flooding).await }
    });
    assert!(pictures.prepare(source, user()).await.is_ok());
    assert!(!waiting.is_finished(), "it has its turn after the first one");
    waiting.abort();
}
