//! Writes stanzas so that a text stays a text. The codec takes every short string with an `@` in it for an id, and a
//! client that reads an id with an unknown server breaks off. Never does IO.

use wacore_binary::encoder::{ByteWriter, EncodeNode, Encoder};
use wacore_binary::{Node, NodeContent, NodeValue, Result};

/// The attributes that hold a text that somebody wrote: a group's subject, a person's own name.
const TEXT_ATTRIBUTES: [&str; 2] = ["subject", "notify"];

/// The bytes of a stanza, its leading format byte included.
pub(crate) fn marshal(stanza: &Node) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    Encoder::new_vec(&mut plain)?.write_node(&TextNode(stanza))?;
    Ok(plain)
}

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
                NodeValue::String(text) if text.contains('@') && TEXT_ATTRIBUTES.contains(&name.as_ref()) => {
                    encoder.write_bytes_with_len(text.as_bytes())?;
                }
                NodeValue::String(word) => encoder.write_string(word)?,
                NodeValue::Jid(jid) => encoder.write_jid_owned(jid)?,
            }
        }
        Ok(())
    }

    fn encode_content<W: ByteWriter>(&self, encoder: &mut Encoder<'_, W>) -> Result<()> {
        let Some(NodeContent::Nodes(nodes)) = &self.0.content else { return self.0.encode_content(encoder) };
        encoder.write_list_start(nodes.len())?;
        nodes.iter().try_for_each(|node| encoder.write_node(&TextNode(node)))
    }
}
