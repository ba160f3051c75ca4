"use strict";
// Puts what the server writes in the place of what is there, once a second, and sends what an operator decides.
// Nothing in here makes markup of text.
(() => {
  const INTERVAL_MS = 1000, PATIENCE_MS = 5000, NOTICE_MS = 8000, TOKEN = "distributor-token";
  const element = (id) => document.getElementById(id);
  const main = element("main"), login = element("login"), offline = element("offline");
  document.documentElement.classList.add("scripted");
  let lastAnswer = new Date(), timer = 0, isAsking = false;

  const setOffline = (isOffline) => {
    offline.hidden = !isOffline;
    document.documentElement.classList.toggle("offline", isOffline);
  };

  const headers = (more) => {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
  };

  // What whoever looks has unfolded stays so.
  const isTheirs = (node, name) => node.nodeName === "DETAILS" && name === "open";

  // The old tree becomes the new one. Nodes stay where they can, so that focus, choices and selections do.
  const morph = (old, now) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && !isTheirs(old, name)) old.removeAttribute(name);
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    morphChildren(old, now);
  };
  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE && node.dataset.key) || null;
  const isAlike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b) && (a.id || "") === (b.id || "");
  const morphChildren = (old, now) => {
    const keyed = new Map();
    for (const child of old.childNodes) if (keyOf(child) && !keyed.has(keyOf(child))) keyed.set(keyOf(child), child);
    let place = old.firstChild;
    for (const wanted of [...now.childNodes]) {
      const key = keyOf(wanted);
      let found = key ? keyed.get(key) : place && isAlike(place, wanted) ? place : null;
      if (key) keyed.delete(key);
      if (found && isAlike(found, wanted)) {
        if (found === place) place = place.nextSibling;
        else old.insertBefore(found, place);
        morph(found, wanted);
      } else {
        old.insertBefore(document.importNode(wanted, true), place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  };

  const show = (text) => {
    const now = new DOMParser().parseFromString(`<main>${text}</main>`, "text/html").querySelector("main");
    morphChildren(main, now);
    main.removeAttribute("data-locked");
    const headline = element("headline");
    if (headline) document.title = `${headline.dataset.title} · distributor`;
    count();
  };

  const lock = (why) => {
    sessionStorage.removeItem(TOKEN);
    main.replaceChildren();
    main.setAttribute("data-locked", "");
    element("login-error").textContent = why;
    login.hidden = false;
    element("token").focus();
  };

  const ask = async () => {
    if (isAsking || !login.hidden) return;
    isAsking = true;
    clearTimeout(timer);
    try {
      const answer = await fetch("status.html", { headers: headers(), signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status === 401) {
        lock("This is not the token.");
        return;
      }
      if (!answer.ok) throw new Error(`it answered ${answer.status}`);
      show(await answer.text());
      lastAnswer = new Date();
      setOffline(false);
    } catch (error) {
      offline.textContent = `The distributor does not answer since ${lastAnswer.toISOString().slice(11, 19)} UTC; what is below is as it was then. (${error.message})`;
      setOffline(true);
    } finally {
      isAsking = false;
      if (login.hidden && !document.hidden) timer = setTimeout(ask, INTERVAL_MS);
    }
  };

  const notice = (text) => {
    const line = document.createElement("p");
    line.textContent = text;
    element("notice").replaceChildren(line);
    setTimeout(() => line.remove(), NOTICE_MS);
  };

  const confirmed = (title, text, yes, isDangerous) =>
    new Promise((resolve) => {
      const dialog = element("confirm");
      element("confirm-title").textContent = title;
      element("confirm-text").textContent = text;
      const button = element("confirm-yes");
      button.textContent = yes;
      button.className = isDangerous ? "danger" : "primary";
      dialog.returnValue = "no";
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
      dialog.showModal();
    });

  const change = async (path, body, done) => {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: headers({ "Distributor-Control": "1", "Content-Type": "application/json" }),
        body: body === undefined ? "" : JSON.stringify(body),
      });
      const said = await answer.json();
      notice(answer.ok ? said.note || done : [said.detail, ...(said.problems || [])].join(" "));
    } catch (error) {
      notice(`It is not known whether that worked: ${error.message}`);
    }
    await ask();
  };

  const boxes = () => [...main.querySelectorAll("#dead-letters tbody input[type=checkbox]")];
  const chosen = () => boxes().filter((box) => box.checked).map((box) => box.dataset.id);
  const events = (n) => (n === 1 ? "1 event" : `${n} events`);
  const count = () => {
    const n = chosen().length;
    const isBusy = !!main.querySelector("[data-action=redrive-all][disabled]");
    for (const name of ["redrive-chosen", "purge-chosen"]) {
      const button = main.querySelector(`[data-action=${name}]`);
      if (button) button.disabled = n === 0 || isBusy;
    }
    const all = element("choose-all");
    if (all) all.checked = n > 0 && n === boxes().length;
  };

  const redrive = async (choice, what) => {
    const text = "They go through the plugins in force to the service, and each is deleted when the service has taken it. What it does not take stays here.";
    if (await confirmed(`Redrive ${what}?`, text, "Redrive", false)) await change("dead-letters/redrive", choice, `Redriving ${what}`);
  };
  const purge = async (choice, what) => {
    const text = "They are deleted, and nobody can bring them back.";
    if (await confirmed(`Purge ${what}?`, text, "Purge", true)) await change("dead-letters/purge", choice, `Purging ${what}`);
  };
  const actions = {
    "redrive-one": (data) => redrive({ ids: [data.id] }, `event ${data.event}`),
    "purge-one": (data) => purge({ ids: [data.id] }, `event ${data.event}`),
    "redrive-chosen": () => redrive({ ids: chosen() }, events(chosen().length)),
    "purge-chosen": () => purge({ ids: chosen() }, events(chosen().length)),
    "redrive-all": (data) => redrive({ all: true, through: data.through }, `all ${data.total}`),
    "purge-all": (data) => purge({ all: true, through: data.through }, `all ${data.total}`),
    rollback: async (data) => {
      const text = `The plugins of generation ${data.generation} are put in force again. PLUGINS_DIR keeps what it holds, and its next change puts that in force.`;
      if (await confirmed("Roll back the plugins?", text, "Roll back", true)) await change("plugins/rollback", undefined, "Rolled back");
    },
    reload: () => change("plugins/reload", undefined, "PLUGINS_DIR was read again"),
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (button && !button.disabled) actions[button.dataset.action](button.dataset);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "choose-all") for (const box of boxes()) box.checked = event.target.checked;
    if (event.target.type === "checkbox") count();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  login.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, element("token").value);
    element("token").value = "";
    element("login-error").textContent = "";
    login.hidden = true;
    ask();
  });

  if (main.hasAttribute("data-locked") && !sessionStorage.getItem(TOKEN)) {
    login.hidden = false;
    element("token").focus();
  } else {
    count();
    ask();
  }
})();
