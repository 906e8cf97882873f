// The token stands behind the "#": browsers send that part nowhere, so it is in no log.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", "/");
  const answer = await fetch("/enter", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (answer.ok) location.replace("/");
  else {
    const told = await answer.json();
    document.getElementById("door").textContent = `${told.what} End \`mayfly dashboard\` and start it again.`;
  }
}
