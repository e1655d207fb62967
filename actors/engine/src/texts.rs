//! Writes the texts of a stanza as bytes, as WhatsApp's own clients do. The engine's encoder writes every string of up to 127
//! bytes that has an `@` in it as an id, and nobody can read "Sales @ Lagos" as one. Never does IO.
//!
//! Source: wacore-binary `encoder.rs` (`classify_string_hint`); a decoder refuses an id with an unknown server.

use wacore_binary::encoder::{ByteWriter, EncodeNode, Encoder};
use wacore_binary::{Node, NodeContent, NodeValue, Result};

/// The attributes that hold a text that somebody wrote. All other strings are words of the protocol and ids.
const TEXT_ATTRIBUTES: [&str; 1] = ["subject"];

/// Appends the whole stanza, its leading format byte included.
pub(super) fn encode(stanza: &Node, out: &mut Vec<u8>) -> Result<()> {
    Encoder::new_vec(out)?.write_node(&TextNode(stanza))
}

/// A node whose texts are written as bytes: its contents, and the attributes of [`TEXT_ATTRIBUTES`].
struct TextNode<'a>(&'a Node);

impl EncodeNode for TextNode<'_> {
    fn tag(&self) -> &str {
        self.0.tag()
    }

    fn attrs_len(&self) -> usize {
        self.0.attrs_len()
    }

    fn has_content(&self) -> bool {
        self.0.has_content()
    }

    fn encode_attrs<W: ByteWriter>(&self, encoder: &mut Encoder<'_, W>) -> Result<()> {
        for (name, value) in &self.0.attrs {
            encoder.write_string(name)?;
            match value {
                NodeValue::String(text) if TEXT_ATTRIBUTES.contains(&name.as_ref()) => {
                    encoder.write_bytes_with_len(text.as_bytes())?;
                }
                NodeValue::String(word) => encoder.write_string(word)?,
                NodeValue::Jid(jid) => encoder.write_jid_owned(jid)?,
            }
        }
        Ok(())
    }

    fn encode_content<W: ByteWriter>(&self, encoder: &mut Encoder<'_, W>) -> Result<()> {
        match &self.0.content {
            Some(NodeContent::String(text)) => encoder.write_bytes_with_len(text.as_bytes()),
            Some(NodeContent::Nodes(nodes)) => {
                encoder.write_list_start(nodes.len())?;
                nodes.iter().try_for_each(|node| encoder.write_node(&TextNode(node)))
            }
            Some(NodeContent::Bytes(_)) | None => self.0.encode_content(encoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use wacore_binary::OwnedNodeRef;
    use wacore_binary::builder::NodeBuilder;

    use super::*;

    /// Every one of these is an id or a word of the protocol to the engine's encoder.
    const TEXTS: [&str; 9] =
        ["Sales @ Lagos", "a@b", "@", "@@", "me_5@you", "team@g.us", "15550100001:3@s.whatsapp.net", "admin", "123-45"];

    #[test]
    fn a_text_with_an_at_sign_is_read_as_it_was_written() {
        for text in TEXTS {
            let body = NodeBuilder::new("body").string_content(text).build();
            let create = NodeBuilder::new("create").attr("subject", text).attr("key", "7").children([body]).build();
            let to = NodeBuilder::new("iq").attr("to", "15550100001@s.whatsapp.net").children([create]).build();
            let mut plain = Vec::new();
            encode(&to, &mut plain).unwrap();
            let read = OwnedNodeRef::new(plain[1..].to_vec()).unwrap().to_owned_node();
            let create = &read.children().unwrap()[0];
            assert_eq!(create.attrs.get("subject").map(|subject| subject.as_str()).as_deref(), Some(text));
            assert_eq!(create.children().unwrap()[0].content, Some(NodeContent::Bytes(text.as_bytes().to_vec())));
            assert!(read.attrs.get("to").is_some_and(|to| matches!(to, NodeValue::Jid(_))));
        }
    }
}
