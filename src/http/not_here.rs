//! What clients of OpenWA may ask for and Rookery does not do: named, with what is there instead, rather than not found.

/// The parts of a path below a session, and what is said of them.
const OF_SESSION: [(&str, &str); 7] = [
    (
        "channels",
        "Channels are not supported. Messages of channels that the account follows come as events of the kind `channel`",
    ),
    ("status", "Status updates are not supported: PUT .../profile/status sets the text about the account"),
    ("labels", "Labels are not supported: groups can be found by name with GET .../groups?search="),
    ("catalog", "Catalogs are not supported: send-image and send-document send what is to be shown"),
    ("templates", "Templates are not supported: POST .../messages/send-bulk takes texts with variables"),
    (
        "calls",
        "Calls and links to calls are not supported: the session's configuration can have calls rejected, and `call.received` tells of them",
    ),
    (
        "media",
        "Converting files is not supported: send them in a form that WhatsApp plays, such as MP4, or Ogg with Opus",
    ),
];
/// The same of calls below `messages`.
const OF_MESSAGES: [(&str, &str); 3] = [
    ("send-template", "Templates are not supported: POST .../messages/send-bulk takes texts with variables"),
    ("send-product", "Catalogs are not supported: send-image shows a product with a caption"),
    ("click-button", "Buttons are not supported: answer with send-text or reply"),
];
const SEARCH: &str =
    "Searching all messages is not supported: GET .../messages?chatId=&from= lists them, and webhooks filter them";

/// Why the route of this path is not here; `None`: nobody would expect it.
pub(super) fn reason(path: &str) -> Option<&'static str> {
    let mut parts = path.strip_prefix("/api/")?.split('/');
    let said = |of: &[(&str, &'static str)], part: &str| of.iter().find(|(name, _)| *name == part).map(|(_, why)| *why);
    match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        ("search", None, ..) => Some(SEARCH),
        ("sessions", Some(_), Some("messages"), Some(call)) => said(&OF_MESSAGES, call),
        ("sessions", Some(_), Some(part), _) => said(&OF_SESSION, part),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_says_what_is_there_instead_and_other_paths_are_unknown() {
        let named = ["/api/search", "/api/sessions/a/channels", "/api/sessions/a/labels/chat/b"];
        for path in named.into_iter().chain(["/api/sessions/a/messages/send-template"]) {
            assert!(reason(path).is_some_and(|why| why.contains("not supported")), "{path}");
        }
        for path in ["/", "/api", "/api/sessions", "/api/sessions/a/x", "/api/sessions/a/messages/x", "/api/search/x"] {
            assert_eq!(reason(path), None, "{path}");
        }
    }
}
