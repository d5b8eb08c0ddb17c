"use strict";
// The service is the one judge of what is valid: what is typed is sent as it is, and its problems are shown beside the fields.
const form = document.querySelector("form");
const key = document.getElementById("key");
const message = document.getElementById("status");
const answer = document.getElementById("answer");
const fields = new Map([...form.querySelectorAll("[data-name]")].map((field) => [`data.${field.dataset.name}`, field]));
let waiting = false;

// Each returns JSON.
const readers = {
  json: (input) => input.value,
  text: (input) => JSON.stringify(input.value),
  number: (input) => {
    if (input.validity.badInput || input.value === "") throw new Error("is not a number");
    // JavaScript would send another number than a large whole one.
    return /^-?[1-9]\d*$/.test(input.value) ? input.value : JSON.stringify(Number(input.value));
  },
};

function read(field) {
  const { kind, separator, empty } = field.dataset;
  if (kind === "list") {
    if (field.querySelector("[data-missing]:checked")) return "null";
    return JSON.stringify([...field.querySelectorAll(":checked")].map((entry) => entry.value).join(separator) || empty);
  }
  const input = field.querySelector("input, select");
  if ("nullable" in field.dataset && input.value === "" && !input.validity.badInput) return "null";
  return readers[kind](input);
}

function mark(field, problem) {
  const place = field.querySelector(".problem");
  place.textContent = problem;
  place.hidden = !problem;
  for (const input of field.querySelectorAll("input, select")) {
    if (problem) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

function say(text, failed = false) {
  message.textContent = text;
  message.classList.toggle("problem", failed);
  answer.replaceChildren();
}

function clear() {
  for (const field of fields.values()) mark(field, "");
}

function refuse(errors, detail) {
  const elsewhere = [];
  for (const { field, rule, value } of errors) {
    const place = fields.get(field);
    const text = value === undefined ? rule : `${rule}: ${JSON.stringify(value)} was given`;
    if (place) mark(place, text);
    else elsewhere.push(`${field || "the body"}: ${rule}`);
  }
  const marked = form.querySelectorAll(".field > .problem:not([hidden])").length;
  const counted = `${marked} ${marked === 1 ? "field is" : "fields are"} not valid`;
  say(elsewhere.length || !marked ? elsewhere.join("; ") || detail : `No prediction: ${counted}.`, true);
  form.querySelector("[aria-invalid]")?.focus();
}

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function show(body) {
  say(`${body.predict}, with a probability of ${percent(body.confidence)}`);
  const bars = element("ul", "", "bars");
  for (const [name, share] of Object.entries(body.probabilities)) {
    const item = element("li", "", name === body.predict ? "predicted" : "");
    const track = element("div", "", "track");
    const bar = track.appendChild(element("div"));
    bar.style.width = `${100 * share}%`;
    item.append(element("span", name), element("span", percent(share), "share"), track);
    bars.append(item);
  }
  const facts = element("dl");
  for (const [name, value] of [["Answered by version", body.model_version], ["Request id", body.request_id]]) {
    facts.append(element("dt", name), element("dd", value));
  }
  answer.replaceChildren(bars, facts);
  message.scrollIntoView({ block: "nearest" });
}

async function predict() {
  const row = [], broken = [];
  for (const [field, place] of fields) {
    try {
      row.push(`${JSON.stringify(place.dataset.name)}: ${read(place)}`);
    } catch (error) {
      broken.push({ field, rule: error.message });
    }
  }
  if (broken.length) return refuse(broken, "");
  const headers = { "Content-Type": "application/json" };
  if (key) headers[key.dataset.header] = key.value;
  let response, body;
  try {
    response = await fetch(form.action, { method: "POST", headers, body: `{"data": {${row.join(", ")}}}` });
    body = await response.json();
  } catch (error) {
    return say(`The service could not be asked: ${error.message}`, true);
  }
  if (response.ok) return show(body);
  if (response.status === 401) key?.focus();
  refuse(body.errors ?? [], `${body.title}: ${body.detail}`);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (waiting) return;
  waiting = true;
  clear();
  say("Waiting for the answer");
  await predict();
  waiting = false;
});
form.addEventListener("reset", () => {
  if (key) key.defaultValue = key.value;
  clear();
  say("The form holds the example of the contract.");
});
