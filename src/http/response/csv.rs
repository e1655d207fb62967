//! Tables as CSV (RFC 4180). A body is made piece by piece as it is sent. No cell is a formula to a spreadsheet.

use std::borrow::Cow;
use std::convert::Infallible;

use axum::BoxError;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::http::limits::TABLE_PIECE_BYTES;
use crate::http::request::characters::is_invisible;

/// What spreadsheets take for the start of a formula.
const FORMULA_STARTS: [char; 12] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫'];
/// Characters that move on to another cell when they are at the start of one.
const CELL_STARTS: [char; 2] = ['\t', '\r'];
/// Characters that spreadsheets may take for the end of a cell, with another separator than the comma or when read line
/// by line.
const OTHER_SEPARATORS: [char; 9] = [';', '\t', '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];

/// A body of pieces that are made when there is room for them. `row` writes the next row, or says that there is none.
pub(crate) fn table(name: &str, columns: &[&str], row: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static) -> Response {
    let mut headings = Vec::new();
    write_row(&mut headings, columns);
    attachment(name, Body::from_stream(stream::iter(pieces(headings, row).map(Ok::<_, Infallible>))))
}

/// A body whose rows come in pieces that have to be waited for.
pub(crate) fn table_of<E: Into<BoxError> + Send + 'static>(
    name: &str,
    columns: &[&str],
    rows: impl Stream<Item = Result<Vec<u8>, E>> + Send + 'static,
) -> Response {
    let mut headings = Vec::new();
    write_row(&mut headings, columns);
    let pieces = stream::once(std::future::ready(Ok(headings))).chain(rows).map_ok(Bytes::from);
    attachment(name, Body::from_stream(pieces))
}

fn attachment(name: &str, body: Body) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8"), (header::CONTENT_DISPOSITION, disposition.as_str())];
    (headers, body).into_response()
}

fn pieces(headings: Vec<u8>, mut row: impl FnMut(&mut Vec<u8>) -> bool) -> impl Iterator<Item = Bytes> {
    let mut start = Some(headings);
    let mut is_over = false;
    std::iter::from_fn(move || {
        let mut piece = start.take().unwrap_or_default();
        piece.reserve(TABLE_PIECE_BYTES);
        while !is_over && piece.len() < TABLE_PIECE_BYTES {
            is_over = !row(&mut piece);
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    })
}

/// One line. A cell is quoted where it has to be.
pub(crate) fn write_row(piece: &mut Vec<u8>, cells: &[&str]) {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            piece.push(b',');
        }
        let cell = guarded(cell);
        if cell.contains(['"', ',', '\r', '\n']) {
            piece.push(b'"');
            piece.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            piece.push(b'"');
        } else {
            piece.extend_from_slice(cell.as_bytes());
        }
    }
    piece.extend_from_slice(b"\r\n");
}

/// The cell with an apostrophe in front of everything that a spreadsheet could take for a formula, also behind
/// invisible characters: a spreadsheet may leave those out.
fn guarded(cell: &str) -> Cow<'_, str> {
    let is_passed_over = |character: char| character == '"' || is_invisible(character);
    let starts = |part: &str| {
        part.starts_with(CELL_STARTS) || part.trim_start_matches(is_passed_over).starts_with(FORMULA_STARTS)
    };
    let mut parts = cell.split_inclusive(OTHER_SEPARATORS);
    if !starts(cell) && !parts.clone().any(starts) {
        return Cow::Borrowed(cell);
    }
    let mut guarded = String::with_capacity(cell.len() + 1);
    if starts(cell) {
        guarded.push('\'');
        guarded.push_str(parts.next().unwrap_or_default());
    }
    for part in parts {
        if starts(part) {
            guarded.push('\'');
        }
        guarded.push_str(part);
    }
    Cow::Owned(guarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_has_to_be_and_is_never_a_formula() {
        let cases: [(&[&str], &str); 12] = [
            (&["a", "b c", ""], "a,b c,\r\n"),
            (&["a,b", "c"], "\"a,b\",c\r\n"),
            (&["say \"hi\""], "\"say \"\"hi\"\"\"\r\n"),
            (&["two\nlines", "x\ry"], "\"two\nlines\",\"x\ry\"\r\n"),
            (&["=1+1", "+49", "-3", "@all"], "'=1+1,'+49,'-3,'@all\r\n"),
            (&["=A1,B1"], "\"'=A1,B1\"\r\n"),
            (&["\tx", "\rx"], "'\tx,\"'\rx\"\r\n"),
            (&["a=b", "'x"], "a=b,'x\r\n"),
            (&["Über 🎉"], "Über 🎉\r\n"),
            (&["a;=1+1", "a\t+1;-2", "a; b"], "a;'=1+1,a\t'+1;'-2,a; b\r\n"),
            (&[" =1", "\"=1"], "' =1,\"'\"\"=1\"\r\n"),
            (&["＝1", "a;＠x"], "'＝1,a;'＠x\r\n"),
        ];
        for (cells, expected) in cases {
            let mut piece = Vec::new();
            write_row(&mut piece, cells);
            assert_eq!(String::from_utf8(piece).unwrap(), expected);
        }
    }

    #[test]
    fn a_formula_is_guarded_behind_everything_that_is_not_seen() {
        let unseen = [
            "\n",
            "\r\n",
            "\r",
            "\t",
            " ",
            "\u{b}",
            "\u{c}",
            "\u{85}",
            "\u{a0}",
            "\u{2007}",
            "\u{202f}",
            "\u{3000}",
            "\u{feff}",
            "\u{200b}",
            "\u{200c}",
            "\u{200d}",
            "\u{2060}",
            "\u{ad}",
            "\u{180e}",
            "\u{200e}",
            "\u{202e}",
            "\u{2028}",
            "\u{2029}",
            "\u{0}",
            "\u{1b}",
            "\u{7f}",
            "\u{fe0f}",
            "\u{3164}",
            "\u{e0020}",
        ];
        for unseen in unseen {
            for start in FORMULA_STARTS {
                let formula = format!("{unseen}{start}1");
                let (first, mixed) = (guarded(&formula).into_owned(), format!("\u{feff}{formula}"));
                assert!(first.starts_with('\''), "{formula:?}: {first:?}");
                assert!(guarded(&mixed).starts_with('\''), "{mixed:?}");
                for separator in OTHER_SEPARATORS {
                    let later = format!("a{separator}{formula}");
                    let guarded = guarded(&later).into_owned();
                    assert!(guarded.contains('\''), "{later:?}: {guarded:?}");
                }
            }
            let harmless = format!("a{unseen}b");
            assert!(!guarded(&harmless).starts_with('\''), "{harmless:?}");
        }
    }

    #[test]
    fn a_large_table_comes_in_pieces_and_no_row_is_lost() {
        let mut next = 0;
        let row = move |piece: &mut Vec<u8>| {
            next += 1;
            write_row(piece, &[&next.to_string(), "a name of usual length"]);
            next < 10_000
        };
        let all: Vec<_> = pieces(b"number,name\r\n".to_vec(), row).collect();
        assert!(all.len() > 10 && all.iter().all(|piece| piece.len() < TABLE_PIECE_BYTES + 100));
        let text = String::from_utf8(all.concat()).unwrap();
        assert_eq!(text.lines().count(), 10_001);
        assert!(text.ends_with("10000,a name of usual length\r\n"));
        assert_eq!(pieces(b"number\r\n".to_vec(), |_| false).collect::<Vec<_>>(), ["number\r\n"]);
    }
}
