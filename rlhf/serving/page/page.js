"use strict";

// What a model says is only ever put into the page as text.

const SIDES = ["left", "right"];
const KEY = "rlhf-key";
const byId = (id) => document.getElementById(id);

const state = {
  messages: [], // the conversation both sides are given
  comparison: null, // its id on the server, once both answers are whole
  answers: { left: "", right: "" },
  asking: null, // AbortController of the request under way
  records: false,
  judges: [],
};

// --- the server -----------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body, signal) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers["Authorization"] = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  if (response.ok) return response;
  let message = `the server answered with status ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not JSON: the status is all there is to say
  }
  throw new Refused(response.status, message);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part.slice("data: ".length));
  }
}

// --- showing --------------------------------------------------------------------------------------------------------

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function showError(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    sessionStorage.removeItem(KEY);
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  notice(error instanceof Refused ? error.message : `The server cannot be reached: ${error.message}`);
}

function showHistory() {
  const turns = state.messages.map((message) => {
    const turn = element("div", "", "turn");
    turn.append(element("strong", message.role === "user" ? "You" : "Answer"), element("p", message.content));
    return turn;
  });
  byId("history").replaceChildren(...turns);
  byId("history").hidden = turns.length === 0;
}

function showScores(scores) {
  for (const side of SIDES) {
    const other = side === "left" ? "right" : "left";
    const list = byId(`${side}-scores`);
    list.replaceChildren();
    for (const judge of state.judges) {
      const mine = scores[side][judge.name];
      const theirs = scores[other][judge.name];
      const said = element("dd", mine.error ? "could not judge" : mine.score === null ? "–" : mine.score.toFixed(3));
      if (mine.error) said.title = mine.error;
      if (mine.score !== null && theirs.score !== null && mine.score > theirs.score) {
        said.className = "higher";
        said.textContent += " ▲";
      }
      list.append(element("dt", judge.name), said);
    }
    list.hidden = state.judges.length === 0;
  }
  byId("show-scores").hidden = true;
}

function resetSides() {
  for (const side of SIDES) {
    state.answers[side] = "";
    byId(side).classList.remove("chosen");
    byId(`${side}-title`).textContent = side === "left" ? "Left" : "Right";
    byId(`${side}-answer`).textContent = "";
    byId(`${side}-scores`).hidden = true;
  }
  state.comparison = null;
  byId("choices").hidden = true;
  byId("outcome").hidden = true;
  notice("");
}

function setAsking(controller) {
  state.asking = controller;
  byId("send").disabled = byId("fresh").disabled = controller !== null;
  byId("stop").hidden = controller === null;
  for (const side of SIDES) byId(`${side}-answer`).setAttribute("aria-busy", String(controller !== null));
}

// --- asking and choosing --------------------------------------------------------------------------------------------

async function send(text) {
  // A question that was not chosen from is replaced by the next one.
  if (state.messages.at(-1)?.role === "user") state.messages.pop();
  state.messages.push({ role: "user", content: text });
  showHistory();
  resetSides();
  byId("sides").hidden = false;
  setAsking(new AbortController());
  try {
    const maxTokens = byId("max-tokens").valueAsNumber;
    const body = {
      messages: state.messages,
      temperature: byId("temperature").valueAsNumber || 0,
      max_tokens: Number.isNaN(maxTokens) ? null : maxTokens,
    };
    const response = await ask("/v1/comparisons", body, state.asking.signal);
    byId("prompt").value = "";
    let comparison = null;
    for await (const told of events(response)) {
      if (told.error) throw new Refused(500, told.error.message);
      comparison = told.comparison ?? comparison;
      if (told.text) {
        state.answers[told.side] += told.text;
        byId(`${told.side}-answer`).append(told.text);
      }
      if (told.finish_reason) byId(`${told.side}-answer`).setAttribute("aria-busy", "false");
    }
    offer(comparison);
  } catch (error) {
    showError(error);
  } finally {
    setAsking(null);
  }
}

function offer(comparison) {
  state.comparison = comparison;
  const same = state.answers.left === state.answers.right;
  for (const button of byId("choices").querySelectorAll("[data-choice]")) {
    button.disabled = !state.records || (same && SIDES.includes(button.dataset.choice));
  }
  byId("show-scores").hidden = state.judges.length === 0;
  byId("choices").hidden = !state.records && state.judges.length === 0;
  if (!state.records) notice("Choices are not recorded: the server was started without --preferences FOLDER.");
  else if (same) notice("The two answers are the same.");
  // No choice has the focus: a stray Enter must not be one.
  if (!byId("choices").hidden) byId("choices").focus();
}

async function choose(choice) {
  const comparison = state.comparison;
  if (comparison === null || !state.records) return;
  try {
    const response = await ask(`/v1/comparisons/${comparison}/choice`, { choice });
    const told = await response.json();
    state.comparison = null;
    byId("choices").hidden = true;
    for (const side of SIDES) byId(`${side}-title`).append(`: ${told.models[side]}`);
    showScores(told.scores);
    if (SIDES.includes(choice)) byId(choice).classList.add("chosen");
    const kept = choice === "right" ? "right" : "left";
    state.messages.push({ role: "assistant", content: state.answers[kept] });
    const words = { left: "Left is better", right: "Right is better", tie: "Equally good", both_bad: "Both bad" };
    byId("outcome").textContent = `Recorded: ${words[choice]}. The conversation goes on with the ${kept} answer.`;
    byId("outcome").hidden = false;
    notice("");
    byId("prompt").focus();
  } catch (error) {
    showError(error);
  }
}

async function lookAtScores() {
  try {
    const response = await ask(`/v1/comparisons/${state.comparison}/scores`, {});
    showScores((await response.json()).scores);
  } catch (error) {
    showError(error);
  }
}

async function describe() {
  try {
    const told = await (await ask("/v1/comparisons")).json();
    state.records = told.records;
    state.judges = told.judges;
    byId("max-tokens").max = told.max_tokens;
    byId("max-tokens").placeholder = told.max_tokens;
    byId("key-form").hidden = true;
    notice("");
    const [one, two] = told.models;
    const who = two ? `${one} and ${two}, on sides drawn at random` : `Two answers of ${one}`;
    byId("subtitle").textContent = `${who}. You learn which is which after you choose.`;
    byId("prompt").focus();
  } catch (error) {
    byId("subtitle").textContent = "";
    showError(error);
  }
}

// --- events ---------------------------------------------------------------------------------------------------------

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("prompt").value.trim();
  if (text && state.asking === null) send(text);
});

byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});

byId("stop").addEventListener("click", () => state.asking?.abort());

byId("fresh").addEventListener("click", () => {
  state.messages = [];
  resetSides();
  showHistory();
  byId("sides").hidden = true;
  byId("prompt").focus();
});

byId("choices").addEventListener("click", (event) => {
  const button = event.target.closest("[data-choice]");
  if (button) choose(button.dataset.choice);
});

byId("show-scores").addEventListener("click", lookAtScores);

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value);
  byId("key").value = "";
  describe();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea");
  const button = byId("choices").querySelectorAll("[data-choice]")[Number(event.key) - 1];
  if (!typing && button && !button.disabled && !event.ctrlKey && !event.metaKey && !event.altKey) choose(button.dataset.choice);
});

describe();
