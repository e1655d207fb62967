//! The documentation as HTML, rendered from the OpenAPI document: a section per tag, an entry per route, with a `curl`
//! line each. No script. Knows no routes.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const JSON: &str = "application/json";
/// The daemon's default address.
const HOST: &str = "http://127.0.0.1:2785";

pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--dim:#777}\
body{margin:0;font:15px/1.5 system-ui,sans-serif;display:grid;grid-template-columns:19rem minmax(0,1fr)}\
nav{position:sticky;top:0;height:100vh;overflow:auto;box-sizing:border-box;padding:1rem;border-right:1px solid var(--line);font-size:13px}\
nav a{display:block;color:inherit;text-decoration:none;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}\
nav a:hover{text-decoration:underline}nav b{display:block;margin-top:.8rem}\
main{padding:1rem 2rem;max-width:60rem}article{border-top:1px solid var(--line);padding:.5rem 0 1rem}\
h2{margin-top:2.5rem;text-transform:capitalize}h3{margin:.6rem 0 .2rem;font-size:1rem;overflow-wrap:anywhere}\
code,pre{font:13px/1.45 ui-monospace,monospace}code{background:var(--soft);padding:0 .2em;border-radius:3px}\
pre{background:var(--soft);padding:.6rem .8rem;border-radius:5px;overflow:auto;margin:.4rem 0}\
table{border-collapse:collapse;margin:.4rem 0;font-size:14px}td{padding:.15rem 1rem .15rem 0;vertical-align:top}td.dim{white-space:nowrap}\
.m{display:inline-block;min-width:5em;font-weight:700;color:#2a7}.POST{color:#27c}.PUT{color:#b70}.DELETE{color:#c33}\
.role{float:right;font-size:12px;color:var(--dim)}.dim{color:var(--dim)}summary{cursor:pointer}\
@media(max-width:60rem){body{display:block}nav{display:none}main{padding:1rem}}";

/// The whole page.
pub(super) fn render(document: &Value) -> String {
    let (mut menu, mut body) = (String::new(), String::new());
    for tag in list(&document["tags"]) {
        let name = text(&tag["name"]);
        push(&mut menu, format_args!("<b>{name}</b>"));
        push(&mut body, format_args!("<h2>{name}</h2><p>{}</p>", prose(&tag["description"])));
        for (path, item) in fields(&document["paths"]) {
            for (method, operation) in fields(item).filter(|(_, operation)| operation["tags"][0] == tag["name"]) {
                let (method, id) = (method.to_uppercase(), text(&operation["operationId"]));
                let summary = prose(&operation["summary"]);
                push(
                    &mut menu,
                    format_args!("<a href=\"#{id}\"><span class=\"m {method}\">{method}</span>{summary}</a>"),
                );
                render_operation(&mut body, document, path, &method, operation);
            }
        }
    }
    let info = &document["info"];
    let about: String =
        text(&info["description"]).split("\n\n").map(|part| format!("<p>{}</p>", inline(part))).collect();
    let mut failures = String::new();
    for (_, failure) in fields(&document["components"]["responses"]) {
        let example = &failure["content"][JSON]["example"];
        let (status, what) = (&example["statusCode"], prose(&failure["description"]));
        push(&mut failures, format_args!("<h3 id=\"e{status}\">{status}</h3>{what}<pre>{}</pre>", pretty(example)));
    }
    let (title, version) = (text(&info["title"]), text(&info["version"]));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\
         <nav><a href=\"docs-json\">OpenAPI document</a>{menu}<b>failures</b><a href=\"#failures\">What they look like</a>\
         </nav><main><h1>{title} {version}</h1>{about}{body}<h2 id=\"failures\">Failures</h2>{failures}</main></body></html>"
    )
}

fn render_operation(page: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let id = text(&operation["operationId"]);
    let role = operation["x-required-role"].as_str().unwrap_or("no key needed");
    push(page, format_args!("<article id=\"{id}\"><span class=\"role\">{role}</span>"));
    push(page, format_args!("<h3><span class=\"m {method}\">{method}</span> {}</h3>", escape(path)));
    push(page, format_args!("<p><b>{}</b> {}</p>", prose(&operation["summary"]), prose(&operation["description"])));

    let mut rows = String::new();
    for parameter in list(&operation["parameters"]) {
        let place = text(&parameter["in"]);
        let schema = resolve(&parameter["schema"], document);
        row(
            &mut rows,
            text(&parameter["name"]),
            place,
            schema,
            &parameter["description"],
            parameter["required"] == true,
        );
    }
    let content = &operation["requestBody"]["content"][JSON];
    let body = resolve(&content["schema"], document);
    for (name, property) in fields(&body["properties"]) {
        let schema = resolve(property, document);
        let description = property.get("description").unwrap_or(&schema["description"]);
        row(&mut rows, name, "body", schema, description, list(&body["required"]).any(|required| required == name));
    }
    push(page, format_args!("<table>{rows}</table><pre>{}</pre>", escape(&curl(document, path, method, operation))));

    let mut failures = String::new();
    for (status, response) in fields(&operation["responses"]) {
        if response.get("$ref").is_some() {
            push(&mut failures, format_args!(" <a href=\"#e{status}\">{status}</a>"));
            continue;
        }
        let what = prose(&response["description"]);
        match response["content"][JSON].get("example") {
            Some(example) => push(
                page,
                format_args!(
                    "<details><summary><b>{status}</b> {what}</summary><pre>{}</pre></details>",
                    pretty(example)
                ),
            ),
            None => push(page, format_args!("<div><b>{status}</b> {what}</div>")),
        }
    }
    push(page, format_args!("<div class=\"dim\">Failures that others have too:{failures}</div></article>"));
}

/// A command that works against a demo, with a key in `$KEY`.
fn curl(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let mut path = path.to_owned();
    for parameter in list(&operation["parameters"]).filter(|parameter| parameter["in"] == "path") {
        let example = text(&resolve(&parameter["schema"], document)["example"]);
        path = path.replace(&format!("{{{}}}", text(&parameter["name"])), example);
    }
    let asked =
        list(&operation["parameters"]).filter(|parameter| parameter["in"] == "query" && parameter["required"] == true);
    for (index, parameter) in asked.enumerate() {
        let example = text(&parameter["example"]);
        let separator = if index == 0 { '?' } else { '&' };
        push(&mut path, format_args!("{separator}{}={example}", text(&parameter["name"])));
    }
    let mut command = String::from("curl");
    if operation.get("x-required-role").is_some() {
        command += " -H \"X-API-Key: $KEY\"";
    }
    if method != "GET" {
        push(&mut command, format_args!(" -X {method}"));
    }
    if let Some(body) = operation["requestBody"]["content"][JSON].get("example") {
        push(&mut command, format_args!(" -H 'Content-Type: application/json' \\\n  -d '{body}'"));
    }
    // `?` and `&` in an address have a meaning in a shell.
    let quote = if path.contains('?') { "'" } else { "" };
    push(&mut command, format_args!(" \\\n  {quote}{HOST}{path}{quote}"));
    command
}

fn row(rows: &mut String, name: &str, place: &str, schema: &Value, description: &Value, required: bool) {
    let kind = match &schema["type"] {
        Value::Array(kinds) => text(&kinds[0]),
        kind => text(kind),
    };
    let rules = [
        ("minLength", "min. length"),
        ("maxLength", "max. length"),
        ("minItems", "min. entries"),
        ("maxItems", "max. entries"),
        ("pattern", "like"),
        ("enum", "one of"),
        ("default", "default"),
    ];
    let mut limits = String::new();
    for (key, words) in rules {
        if let Some(value) = schema.get(key) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            push(&mut limits, format_args!(" {words} <code>{}</code>", escape(&value)));
        }
    }
    let optional = if required { "" } else { "optional " };
    let (name, what) = (escape(name), prose(description));
    push(
        rows,
        format_args!(
            "<tr><td><code>{name}</code><td class=\"dim\">{place}<td class=\"dim\">{optional}{kind}<td>{what}\
             <span class=\"dim\">{limits}</span></tr>"
        ),
    );
}

/// The schema itself: behind its reference, or the one that is not `null`.
fn resolve<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    let schema = list(&schema["oneOf"]).find(|part| part["type"] != "null").unwrap_or(schema);
    let pointer = schema["$ref"].as_str().map(|reference| reference.trim_start_matches('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn prose(value: &Value) -> String {
    inline(text(value))
}

/// Text with `code` in it.
fn inline(text: &str) -> String {
    let escaped = escape(text);
    let parts = escaped.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

fn pretty(value: &Value) -> String {
    escape(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing to a text cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}
