//! A stored text with what the server says of it, made without reading the text: most begin as this server writes them.
use super::Stored;
use crate::audit::AUDIT_EVENT;

impl Stored {
    /// The same of a text that begins as most do that are stored, with the type, the id and then `meta`, or that has no
    /// `meta`: what follows is copied as it is, unread. Not of an AuditEvent: whether its time is told is decided when it is
    /// shown.
    pub(super) fn spliced(&self, stamp: &str) -> Option<String> {
        if self.kind.as_str() == AUDIT_EVENT {
            return None;
        }
        let rest = self.json.strip_prefix("{\"resourceType\":\"")?;
        let rest = rest.strip_prefix(self.kind.as_str())?;
        let rest = rest.strip_prefix("\",\"id\":\"")?;
        let rest = rest.strip_prefix(self.id.as_str())?.strip_prefix('"')?;
        let (end, rest) = match rest.strip_prefix(",\"meta\":{") {
            Some(rest) if rest.trim_start().starts_with('}') => ("", rest),
            Some(rest) => (",", rest),
            // A name may be written with escapes.
            None if rest.contains("\"meta\"") || rest.contains("\\u00") => return None,
            None => ("}", rest),
        };
        let head = self.json.get(..self.json.len() - rest.len())?;
        let mut out = String::with_capacity(self.json.len() + stamp.len() + 16);
        out.push_str(head);
        if end == "}" {
            out.push_str(",\"meta\":{");
        }
        out.extend([stamp, end, rest]);
        Some(out)
    }
}
