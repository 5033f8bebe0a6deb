// A call as programs make it: a line of `curl`, Python with httpx, the `openai` package. Pure: texts
// out, and no secret in them: a key is `$KEY`, as is what a header or a field keeps secret.
import { parseExact } from "../parts/exact_json.js";
import { JSON_TYPE } from "./calls.js";
import { joinRequest } from "./fields.js";

const SECRET = /authorization|api-?key|token|secret|password|cookie/i;

// Whether a header's value is not to be shown.
export function isSecret(name) {
  return SECRET.test(name);
}

// A text for a shell, as one word.
export function quote(text) {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function variable(name) {
  return name.toUpperCase().replace(/[^A-Z0-9]+/g, "_");
}

// A call in `curl`, for a shell.
//
// `options`: `url` of the function, `hasKey`, `streams`, `output` (a file that the answer is written
// into; empty: a terminal shows it), `secrets` (fields whose values are not shown).
export function curlOf(call, { url, hasKey, streams = false, output = "", secrets = [] }) {
  const options = [streams ? ` -N` : "", ` ${quote(url)}`];
  if (hasKey) options.push(` -H "x-api-key: $KEY"`);
  for (const [name, value] of call.headers) {
    options.push(
      isSecret(name)
        ? ` -H "${name}: $${variable(name)}"`
        : ` -H ${quote(`${name}: ${value}`)}`,
    );
  }
  const { before, body } = curlBody(call.body, secrets);
  const keep = output ? ` -o ${quote(output)}` : "";
  return `${before}curl${options.join("")}${body}${keep}`;
}

function curlBody(body, secrets) {
  const json = ` -H 'content-type: ${JSON_TYPE}'`;
  switch (body.kind) {
    case "raw": {
      const type = ` -H ${quote(`content-type: ${body.type}`)}`;
      return { before: "", body: `${type} --data-binary ${quote(`@${nameOf(body.file)}`)}` };
    }
    case "form":
      return { before: "", body: body.parts.map((part) => curlPart(part, secrets)).join("") };
    default: {
      if (Object.keys(body.files ?? {}).length > 0) {
        return { before: `${jsonWithFiles(body, secrets)} | `, body: `${json} --data-binary @-` };
      }
      return { before: "", body: `${json} -d ${quoteHidden(hiddenJson(body, secrets))}` };
    }
  }
}

function curlPart({ name, text, file }, secrets) {
  if (file) {
    const path = nameOf(file);
    const known = /[;,"\\\s]/.test(path) ? `"${path.replace(/(["\\])/g, "\\$1")}"` : path;
    return ` -F ${quote(`${name}=@${known}`)}`;
  }
  if (secrets.includes(name)) return ` --form-string "${name}=$${variable(name)}"`;
  // what begins with @ or <, or has a semicolon, is something else to `-F`
  const option = /^[\w.:+-][\w.:+ -]*$/.test(text) ? "-F" : "--form-string";
  return ` ${option} ${quote(`${name}=${text}`)}`;
}

// What prints JSON in which files are base64: no argument is as long as a file.
function jsonWithFiles({ texts, files, many }, secrets) {
  const steps = [];
  let text = "{";
  const say = (more) => {
    text += more;
  };
  const flush = () => {
    if (text) steps.push(`printf %s ${quoteHidden(text)}`);
    text = "";
  };
  const entries = [
    ...Object.entries(hidden(texts, secrets)).map(([name, json]) => [name, { json }]),
    ...Object.entries(files).map(([name, chosen]) => [name, { chosen }]),
  ];
  entries.forEach(([name, { json, chosen }], index) => {
    say(`${index ? ", " : ""}${JSON.stringify(name)}: `);
    if (json !== undefined) {
      say(json);
      return;
    }
    const isMany = many.includes(name);
    if (isMany) say("[");
    chosen.forEach((file, at) => {
      say(`${at ? ", " : ""}"`);
      flush();
      steps.push(`base64 < ${quote(nameOf(file))} | tr -d '\\n'`);
      say('"');
    });
    if (isMany) say("]");
  });
  say("}");
  flush();
  return `{ ${steps.join("; ")}; }`;
}

// Texts of JSON in which a secret is the name of its variable, between characters that no JSON has.
function hidden(texts, secrets) {
  const names = secrets.filter((name) => Object.hasOwn(texts, name) && texts[name] !== "null");
  return {
    ...texts,
    ...Object.fromEntries(names.map((name) => [name, `"\0${variable(name)}\0"`])),
  };
}

// The JSON of a body likewise: of one that was typed, wherever such a name is in it.
function hiddenJson({ texts, text }, secrets) {
  if (texts) return joinRequest(hidden(texts, secrets));
  if (secrets.length === 0) return text;
  const marked = JSON.stringify(parseExact(text), (name, value) =>
    value !== null && secrets.includes(name) ? `\0${variable(name)}\0` : value,
  );
  const shown = marked.replace(/"\\u0000(\w+)\\u0000"/g, `"\0$1\0"`);
  return shown === marked ? text : shown;
}

// The same for a shell, which puts the variables in.
function quoteHidden(text) {
  return quote(text).replace(/\0(\w+)\0/g, `'"$$$1"'`);
}

// A file's name that a program may have; one that was recorded here has none.
function nameOf(file) {
  return file.name || "FILE";
}

// A text of JSON as a literal of Python; what is hidden in it is of the environment.
export function pythonOf(json) {
  const words = { true: "True", false: "False", null: "None" };
  return json.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (found) =>
    found in words ? words[found] : pythonText(found),
  );
}

// Escapes of JSON are Python's, but for a slash and for the two halves of one character.
function pythonText(found) {
  const [, secret] = /^"\0(\w+)\0"$/.exec(found) ?? [];
  if (secret) return `os.environ["${secret}"]`;
  return /\\u[dD][89a-fA-F]|\\\//.test(found) ? JSON.stringify(JSON.parse(found)) : found;
}

function pythonString(text) {
  return JSON.stringify(text);
}

const TIMEOUT_S = 60;

// A call in Python with httpx. `options` as of `curlOf`; `isText`: the answer is a text, not JSON.
export function pythonProgram(call, options) {
  const { url, hasKey, streams = false, output = "", isText = false, secrets = [] } = options;
  const { body } = call;
  const headers = call.headers.map(([name, value]) =>
    isSecret(name)
      ? `${pythonString(name)}: os.environ[${pythonString(variable(name))}]`
      : `${pythonString(name)}: ${pythonString(value)}`,
  );
  if (hasKey) headers.unshift(`"x-api-key": os.environ["KEY"]`);
  if (body.kind === "raw") headers.push(`"content-type": ${pythonString(body.type)}`);
  const sent = pythonBody(body, secrets);
  const given = [
    sent,
    headers.length ? `headers={${headers.join(", ")}}` : "",
    streams ? `timeout=None` : `timeout=${TIMEOUT_S}`,
  ].filter(Boolean);
  const text = given.map((option) => `    ${option.replaceAll("\n", "\n    ")},`).join("\n");
  const uses = `${headers.join()}${sent}`;
  const modules = [
    uses.includes("base64.") ? "import base64" : "",
    uses.includes("os.environ") ? "import os" : "",
    uses.includes("Path(") || output ? "from pathlib import Path" : "",
  ].filter(Boolean);
  const head = `${modules.join("\n")}${modules.length ? "\n\n" : ""}import httpx\n\n`;
  const at = pythonString(url);
  if (streams) {
    return `${head}with httpx.stream(
    "POST",
    ${at},
${text}
) as response:
    response.raise_for_status()
    for line in response.iter_lines():
        print(line)
`;
  }
  const end = output
    ? `Path(${pythonString(output)}).write_bytes(response.content)`
    : `print(response.${isText ? "text" : "json()"})`;
  return `${head}response = httpx.post(
    ${at},
${text}
)
response.raise_for_status()
${end}
`;
}

function pythonBody(body, secrets) {
  const read = (file) => `Path(${pythonString(nameOf(file))}).read_bytes()`;
  if (body.kind === "raw") return `content=${read(body.file)}`;
  if (body.kind === "form") {
    const parts = body.parts.map(({ name, text, file }) => {
      const value = file
        ? `(${pythonString(nameOf(file))}, ${read(file)})`
        : `(None, ${secrets.includes(name) ? `os.environ["${variable(name)}"]` : pythonString(text)})`;
      return `    (${pythonString(name)}, ${value}),`;
    });
    return `files=[\n${parts.join("\n")}\n]`;
  }
  if (body.text !== undefined) return `json=${pythonOf(hiddenJson(body, secrets))}`;
  const entries = Object.entries(hidden(body.texts, secrets)).map(([name, json]) => [
    name,
    pythonOf(json),
  ]);
  const encode = (file) => `base64.b64encode(${read(file)}).decode()`;
  for (const [name, chosen] of Object.entries(body.files ?? {})) {
    const encoded = chosen.map(encode);
    entries.push([name, body.many.includes(name) ? `[${encoded.join(", ")}]` : encoded[0]]);
  }
  const lines = entries.map(([name, value]) => `    ${pythonString(name)}: ${value},`);
  return entries.length ? `json={\n${lines.join("\n")}\n}` : "json={}";
}

const TASKS = {
  embedding: "embeddings",
  embeddings: "embeddings",
  "text-classification": "moderations",
};

// A call by the `openai` package; null: there is no such way, or no text was typed.
//
// `options`: `base` (the server's address), `name` of the function, `task`, `hasKey`, `secrets`.
export function openaiProgram(call, { base, name, task, hasKey, secrets = [] }) {
  const route = TASKS[task];
  const input = route ? textOf(call.body, secrets) : null;
  if (input === null) return null;
  const key = hasKey ? `os.environ["KEY"]` : `"none"`;
  const print =
    route === "embeddings" ? "print(len(answer.data[0].embedding))" : "print(answer.results[0])";
  return `${hasKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${pythonString(`${base}v1`)}, api_key=${key})
answer = client.${route}.create(model=${pythonString(name)}, input=${pythonOf(input)})
${print}
`;
}

// The one text of a request, as JSON; null: it has none that may be shown.
function textOf(body, secrets) {
  if (body.kind !== "json") return null;
  const shown = Object.entries(body.texts ?? objectTexts(body.text)).filter(
    ([name]) => !secrets.includes(name),
  );
  const texts = Object.fromEntries(shown);
  const found = texts.text ?? texts.input ?? Object.values(texts).find((json) => json.startsWith('"'));
  return found?.startsWith('"') ? found : null;
}

function objectTexts(text) {
  const value = JSON.parse(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) return {};
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, JSON.stringify(inner)]),
  );
}
