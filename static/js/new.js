// The form for a new box: presets fill in the fields, the summary and the API call follow what is
// typed, and the hostname is checked as it is. The server checks everything again.

const form = document.getElementById("new-container");
if (form) {
  const field = (name) => form.elements.namedItem(name);
  const hostname = field("hostname");
  const hint = document.getElementById("hostname-hint");
  const rule = hint.textContent;
  const presets = [...form.querySelectorAll(".preset")];
  const curl = document.getElementById("curl");
  const head = curl.textContent.split("-d ")[0];

  const show = () => {
    for (const name of ["hostname", "image", "cpu_cores", "memory_mb", "disk_gb"]) {
      document.getElementById(`sum-${name}`).textContent = field(name)?.value || "–";
    }
    for (const preset of presets) {
      const { cpu, memory, disk } = preset.dataset;
      const fits = field("cpu_cores").value === cpu && field("memory_mb").value === memory
        && field("disk_gb").value === disk;
      preset.setAttribute("aria-pressed", String(fits));
    }
    const body = {
      hostname: hostname.value,
      cpu_cores: Number(field("cpu_cores").value),
      memory_mb: Number(field("memory_mb").value),
      disk_gb: Number(field("disk_gb").value),
    };
    if (field("image")?.value) body.image = field("image").value;
    const keys = field("ssh_keys").value.split("\n").map((k) => k.trim()).filter(Boolean);
    if (keys.length) body.ssh_keys = keys;
    if (field("user_data").value) body.user_data = field("user_data").value;
    const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
    curl.textContent = `${head}-d '${quoted}'`;
  };

  let asked = 0;
  const say = (text, kind) => {
    hint.textContent = text;
    hint.className = `hint ${kind}`;
  };
  const check = async () => {
    const name = hostname.value;
    const mine = ++asked;
    if (!name) return say(rule, "");
    if (/[A-Z]/.test(name)) return say("Lower case, please: capitals are not part of a hostname.", "wrong");
    if (name.length > 63) return say("At most 63 characters.", "wrong");
    if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name)) {
      return say("Letters, digits and hyphens; neither the first nor the last may be a hyphen.", "wrong");
    }
    say(rule, "");
    try {
      const answer = await fetch(`/api/v1/containers?limit=200&q=${encodeURIComponent(name)}`);
      if (!answer.ok || mine !== asked) return;
      const { data } = await answer.json();
      if (data.some((box) => box.hostname === name)) say(`${name} is taken.`, "wrong");
    } catch { /* offline: the server says so when the form is sent */ }
  };
  let waiting = 0;
  hostname.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(check, 200);
  });

  for (const preset of presets) {
    preset.addEventListener("click", () => {
      field("cpu_cores").value = preset.dataset.cpu;
      field("memory_mb").value = preset.dataset.memory;
      field("disk_gb").value = preset.dataset.disk;
      show();
    });
  }
  form.addEventListener("input", show);
  show();
}
