// Passkeys: the button that signs in with one, and the form that makes one. The server speaks
// base64url where browsers want bytes.
const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

class Refused extends Error {}

async function post(path, csrf, body) {
  const headers = { "content-type": "application/json" };
  if (csrf) headers["x-csrf-token"] = csrf;
  const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body) });
  const json = await answer.json();
  if (!answer.ok) {
    if (json.error.message.includes("/auth/confirm")) {
      // Not this page's own address, which may be one that only answers forms.
      location.assign("/confirm?next=%2Fprofile");
    }
    throw new Refused(json.error.message);
  }
  return json.data;
}

function say(form, error) {
  // Whoever closes the browser's question knows that they did.
  if (error.name === "NotAllowedError" || error.name === "AbortError") return;
  const place = form.querySelector("[data-passkey-problem]");
  place.textContent = error instanceof Refused ? error.message : "Your browser could not do that.";
  place.hidden = false;
}

async function add(form) {
  const csrf = form.elements.csrf_token.value;
  const { ticket, options } = await post("/api/v1/auth/passkeys/start", csrf);
  const key = options.publicKey;
  key.challenge = bytes(key.challenge);
  key.user.id = bytes(key.user.id);
  for (const held of key.excludeCredentials ?? []) held.id = bytes(held.id);
  const made = await navigator.credentials.create({ publicKey: key });
  const credential = {
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    extensions: made.getClientExtensionResults(),
    response: {
      attestationObject: text(made.response.attestationObject),
      clientDataJSON: text(made.response.clientDataJSON),
      transports: made.response.getTransports?.(),
    },
  };
  await post("/api/v1/auth/passkeys", csrf, { ticket, name: form.elements.name.value, credential });
  location.assign("/profile?changed=passkey");
}

async function enter(form) {
  const { ticket, options } = await post("/api/v1/auth/login/passkey/start");
  const key = options.publicKey;
  key.challenge = bytes(key.challenge);
  for (const held of key.allowCredentials ?? []) held.id = bytes(held.id);
  const used = await navigator.credentials.get({ publicKey: key });
  const credential = {
    id: used.id,
    rawId: text(used.rawId),
    type: used.type,
    extensions: used.getClientExtensionResults(),
    response: {
      authenticatorData: text(used.response.authenticatorData),
      clientDataJSON: text(used.response.clientDataJSON),
      signature: text(used.response.signature),
      userHandle: used.response.userHandle && text(used.response.userHandle),
    },
  };
  await post("/api/v1/auth/login/passkey", null, { ticket, credential });
  location.assign(form.elements.next.value);
}

if (window.PublicKeyCredential) {
  const form = document.getElementById("add-passkey");
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    add(form).catch((error) => say(form, error));
  });
  const login = document.getElementById("login");
  const button = document.getElementById("sign-in-passkey");
  if (button) button.hidden = false;
  button?.addEventListener("click", () => enter(login).catch((error) => say(login, error)));
} else {
  document.getElementById("add-passkey")?.setAttribute("hidden", "");
}
