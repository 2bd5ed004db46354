// JSON Web Tokens made by hand, good ones and bad ones.

import { createHmac } from "node:crypto";

import { SECRET } from "./gateway.mjs";

const encode = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const now = () => Math.floor(Date.now() / 1000);

/** A token with these claims (a text is taken as it is), signed with HS256 unless another header says otherwise. */
export function sign(claims, { secret = SECRET, header = { alg: "HS256", typ: "JWT" } } = {}) {
  const signed = `${encode(header)}.${encode(claims)}`;
  const hash = { HS384: "sha384", HS512: "sha512" }[header.alg] ?? "sha256";
  return `${signed}.${createHmac(hash, secret).update(signed).digest("base64url")}`;
}

/** A good token of a user. */
export const tokenOf = (userId, more = {}) => sign({ userId, iat: now(), exp: now() + 3600, ...more });

/** Tokens that must be refused, by what is wrong with them. */
export const badTokens = () => ({
  expired: sign({ userId: "eve", exp: now() - 60 }),
  "not valid yet": sign({ userId: "eve", nbf: now() + 600, exp: now() + 3600 }),
  foreign: sign({ userId: "eve", exp: now() + 3600 }, { secret: "another secret" }),
  "alg none": `${encode({ alg: "none", typ: "JWT" })}.${encode({ userId: "eve", exp: now() + 3600 })}.`,
  "alg none, signed": sign({ userId: "eve", exp: now() + 3600 }, { header: { alg: "none" } }),
  unsigned: tokenOf("eve").split(".").slice(0, 2).join(".") + ".",
  changed: tokenOf("eve").replace(/\.[^.]+\./, `.${encode({ userId: "admin", exp: now() + 3600 })}.`),
  "of nobody": sign({ name: "eve", exp: now() + 3600 }),
  "no token at all": "let me in",
});
