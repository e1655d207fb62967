//! Draws QR codes, as PNG and as SVG. Knows nothing of their content.

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, EcLevel, QrCode};

/// Pixels per module: a QR of WhatsApp's length is about 400 pixels wide then, good for a phone's camera.
const MODULE_PIXELS: usize = 6;
/// White modules around the code, as the standard asks.
const QUIET_MODULES: usize = 4;

/// The QR of this text as a black and white PNG.
///
/// # Errors
/// When the text is too long for a QR.
pub(crate) fn png(text: &str) -> Result<Vec<u8>, String> {
    let (colors, modules) = modules(text)?;
    let side = (modules + 2 * QUIET_MODULES) * MODULE_PIXELS;
    let dark = |pixel_x: usize, pixel_y: usize| {
        let module = |pixel: usize| (pixel / MODULE_PIXELS).checked_sub(QUIET_MODULES).filter(|at| *at < modules);
        let at = module(pixel_x).zip(module(pixel_y)).map(|(x, y)| y * modules + x);
        at.is_some_and(|at| colors[at] == Color::Dark)
    };
    // One bit per pixel, each row padded to whole bytes; a set bit is white.
    let mut rows = vec![0_u8; side.div_ceil(8) * side];
    for y in 0..side {
        for x in (0..side).filter(|x| !dark(*x, y)) {
            rows[y * side.div_ceil(8) + x / 8] |= 0x80 >> (x % 8);
        }
    }

    let mut bytes = Vec::new();
    let pixels = u32::try_from(side).map_err(|error| defect(&error))?;
    let mut encoder = png::Encoder::new(&mut bytes, pixels, pixels);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().map_err(|error| defect(&error))?;
    writer.write_image_data(&rows).map_err(|error| defect(&error))?;
    writer.finish().map_err(|error| defect(&error))?;
    Ok(bytes)
}

/// The same PNG as a data URL.
///
/// # Errors
/// As [`png`].
pub(crate) fn data_url(text: &str) -> Result<String, String> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png(text)?)))
}

/// The QR of this text as an SVG: one black path on white, a unit per module.
///
/// # Errors
/// When the text is too long for a QR.
pub(crate) fn svg(text: &str) -> Result<String, String> {
    let (colors, modules) = modules(text)?;
    let side = modules + 2 * QUIET_MODULES;
    let pixels = side * MODULE_PIXELS;
    let mut path = String::new();
    for (y, row) in colors.chunks(modules).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|left, right| left == right) {
            if run[0] == Color::Dark {
                let (left, top, width) = (x + QUIET_MODULES, y + QUIET_MODULES, run.len());
                write!(path, "M{left} {top}h{width}v1h-{width}z").map_err(|error| defect(&error))?;
            }
            x += run.len();
        }
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/></svg>"
    ))
}

/// The modules row by row, and how many there are in a row.
fn modules(text: &str) -> Result<(Vec<Color>, usize), String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(|error| defect(&error))?;
    let width = code.width();
    Ok((code.into_colors(), width))
}

fn defect(error: &dyn Display) -> String {
    format!("could not draw a QR: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_is_a_png_that_can_be_read_back() {
        let bytes = png(&"2@abcdefgh,ijklmnop".repeat(12)).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.width % 6), (frame.height, 0));
        // The quiet zone is white, the corner of the first finder pattern dark.
        let row = frame.line_size;
        assert_eq!((pixels[0], pixels[24 * row + 3] & 0xfc), (0xff, 0));
    }

    #[test]
    fn the_svg_has_the_same_dark_modules() {
        let text = "2@abcdefgh,ijklmnop".repeat(12);
        let (colors, modules) = modules(&text).unwrap();
        let svg = svg(&text).unwrap();
        let path = svg.rsplit_once("<path d=\"").unwrap().1.trim_end_matches("\"/></svg>");
        let mut drawn = vec![Color::Light; colors.len()];
        for run in path.split('M').skip(1) {
            let numbers: Vec<usize> =
                run.split([' ', 'h', 'v']).take(3).map(|number| number.parse().unwrap()).collect();
            let start = (numbers[1] - QUIET_MODULES) * modules + numbers[0] - QUIET_MODULES;
            drawn[start..start + numbers[2]].fill(Color::Dark);
        }
        assert!(drawn == colors);
    }
}
