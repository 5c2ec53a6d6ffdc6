/** Request bodies: JSON, whatever a client calls it, with the text of each document kept beside the parsed value. */

import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { errors } from "../errors.ts";
import { readJson } from "../json.ts";
import type { OperationSchema } from "./openapi-document.ts";
import { bodiesKey, freeFormKeys } from "./schemas/free-form.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The JSON text of each member of the body. */
    bodyTexts: ReadonlyMap<string, string>;
    /** SHA-256 of the body's bytes, when the request has an Idempotency-Key. */
    bodyDigest: string | undefined;
  }
}

const json = "application/json";

/** `curl -d` sends JSON as a form, and scripts send it as text or with no type at all: all are read as JSON. */
const readAsJson = new Set([json, "text/plain", "application/x-www-form-urlencoded", ""]);

const noTexts: ReadonlyMap<string, string> = new Map();

/** What the body is said to be: the type alone, in lower case; empty where nothing is said. */
export function mediaTypeOf({ headers }: FastifyRequest): string {
  return (headers["content-type"] ?? "").split(";", 1).join().trim().toLowerCase();
}

/** Makes every body be read as JSON, and refuses those that say that they are something else. */
export function acceptJsonBodies(app: FastifyInstance): void {
  app.decorateRequest("bodyTexts");
  app.decorateRequest("bodyDigest");
  app.addHook("onRequest", (request, _reply, done) => {
    request.bodyTexts = noTexts;
    done();
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, async (request: FastifyRequest, body: Buffer) => {
    checkType(request);
    if (request.headers["idempotency-key"] !== undefined) {
      request.bodyDigest = createHash("sha256").update(body).digest("hex");
    }
    // Where a body is optional, an empty one says nothing; elsewhere the validation asks for one.
    const text = decode(body);
    if (text.trim() === "") return undefined;
    const schema = request.routeOptions.schema?.body;
    const { value, texts } = readJson(text, freeFormKeys(schema), bodiesKey(schema));
    request.bodyTexts = texts;
    return value;
  });
}

function checkType(request: FastifyRequest): void {
  const { headers, routeOptions } = request;
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") throw errors.unsupportedContentEncoding(encoding);
  const [, ...parameters] = (headers["content-type"] ?? "").split(";").map((part) => part.trim().toLowerCase());
  const type = mediaTypeOf(request);
  const { bodies = { [json]: undefined } } = (routeOptions.schema ?? {}) as Partial<OperationSchema>;
  const isTaken = Object.hasOwn(bodies, type) || (Object.hasOwn(bodies, json) && readAsJson.has(type));
  if (!isTaken) throw errors.unsupportedMediaType(type === "" ? "A body without a type" : type, Object.keys(bodies));
  const charset = parameters.find((parameter) => parameter.startsWith("charset="))?.slice("charset=".length);
  if (charset !== undefined && !["utf-8", "utf8", "us-ascii"].includes(charset.replaceAll('"', ""))) {
    throw errors.unsupportedMediaType(`The charset ${charset}`, [`${json}; charset=utf-8`]);
  }
}

function decode(body: Buffer): string {
  if (!isUtf8(body)) throw errors.malformedJson("The body is not UTF-8, as JSON must be.");
  const text = body.toString("utf8");
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}
