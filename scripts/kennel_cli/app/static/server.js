// What the page asks of its own server. Each function throws an Error with one sentence.

export const predict = async (file) => (await post("predict", file)).json();
export const explain = async (file) => (await post("explain", file)).blob();
export const collect = async (file, label) =>
  (await post(`collect?label=${encodeURIComponent(label)}`, file)).json();

async function post(path, file) {
  let response;
  try {
    // with a type of its own a browser would say what it takes the file for; its bytes say it
    response = await fetch(path, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  } catch {
    throw new Error("The page’s own server does not answer; see whether “kennel app” still runs.");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
  throw new Error(error);
}
