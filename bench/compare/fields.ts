/** Whether the control answers with the service's fields still: it has a copy of them, which somebody must keep. */

import type { Side, Sides } from "./sides.ts";

/** One request for each kind of answer. */
const requests: readonly (readonly [method: string, path: string, body?: object])[] = [
  ["GET", ""],
  ["PATCH", "", { checkpoint: { step: 1 } }],
  ["POST", "/heartbeat"],
  ["POST", "/events", { event_type: "thinking", payload: { iteration: 1 } }],
];

/** Prints what the one answers and the other does not. */
export async function compareFields({ all, ids }: Sides): Promise<void> {
  const [service, control] = [all.find(({ name }) => name === "service"), all.find(({ name }) => name === "control")];
  if (service === undefined || control === undefined) return;
  for (const [method, path, body] of requests) {
    const [id = ""] = ids.sessions;
    const [own, other] = [await ask(service, method, id, path, body), await ask(control, method, id, path, body)];
    for (const [name, these, those] of [["control", own, other] as const, ["service", other, own] as const]) {
      const missing = these.filter((field) => !those.includes(field));
      if (missing.length > 0)
        console.log(`${method} /sessions/{id}${path}: the ${name} answers without ${missing.join(", ")}`);
    }
  }
}

async function ask({ name, url }: Side, method: string, id: string, path: string, body?: object): Promise<string[]> {
  const answer = await fetch(`${url}/sessions/${id}${path}`, {
    method,
    ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok)
    throw new Error(`the ${name} answered ${method} /sessions/{id}${path} with ${answer.status}: ${text}`);
  return Object.keys(JSON.parse(text));
}
