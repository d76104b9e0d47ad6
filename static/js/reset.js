// The secret of a link to choose a password stands behind its "#". It goes into the form, and out
// of the address bar and the history.
const field = document.getElementById("token");
const secret = location.hash.slice(1);
if (field && secret) {
  field.value = secret;
  field.closest(".field").hidden = true;
  history.replaceState(null, "", location.pathname);
  document.getElementById("new_password")?.focus();
}
