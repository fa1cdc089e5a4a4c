// The API's documentation, out of its own OpenAPI document.
const add = (parent, name, text, kind) => {
  const made = Object.assign(document.createElement(name), { textContent: text ?? "", className: kind ?? "" });
  parent.append(made);
  return made;
};

function table(section, caption, rows) {
  if (!rows.length) return;
  const made = add(section, "table");
  add(made, "caption", caption);
  for (const row of rows) { const line = made.insertRow(); for (const text of row) line.insertCell().textContent = text; }
}

const document_ = await (await fetch("openapi.json")).json();
for (const [path, methods] of Object.entries(document_.paths)) {
  for (const [method, call] of Object.entries(methods)) {
    const section = add(document.getElementById("calls"), "section", "", "directives");
    add(section, "h2", `${method.toUpperCase()} ${path}`);
    add(section, "p", call.summary);
    table(section, "Parameters", (call.parameters ?? []).map((p) => [p.name, p.in, p.description ?? p.schema?.description ?? ""]));
    table(section, "Bodies", Object.entries(call.requestBody?.content ?? {}).map(([type, body]) => [type, body.schema.description ?? ""]));
    table(section, "Answers", Object.entries(call.responses).map(([status, answer]) => [status, answer.description]));
  }
}
