// Shows the services' OpenAPI documents. The packaged Swagger UI knows OpenAPI up to 3.0, so each document is shown as
// the 3.0 it would be: of several types the first, which is the one to send, and no long patterns.
"use strict";

const LONGEST_PATTERN = 80;
const NO_NUL = "^[^\\u0000]*$"; // goes without saying to people, and would make odd examples

function older(part) {
  if (Array.isArray(part)) return part.map(older);
  if (part === null || typeof part !== "object") return part;
  const made = {};
  for (const [key, value] of Object.entries(part)) made[key] = older(value);
  if (typeof made.openapi === "string") made.openapi = "3.0.3";
  if ("const" in made) {
    made.enum = [made.const];
    delete made.const;
  }
  if (Array.isArray(made.anyOf)) withoutNull(made);
  if (Array.isArray(made.type)) oneType(made);
  if (Array.isArray(made.examples)) {
    made.example = made.examples[0];
    delete made.examples;
  }
  if (made.pattern === NO_NUL || String(made.pattern).length > LONGEST_PATTERN) delete made.pattern;
  return made;
}

function withoutNull(schema) {
  const others = schema.anyOf.filter((member) => member.type !== "null");
  if (others.length === schema.anyOf.length) return;
  schema.anyOf = others;
  schema.nullable = true;
}

function oneType(schema) {
  if (schema.type.includes("null")) schema.nullable = true;
  schema.type = schema.type.find((name) => name !== "null");
  if (schema.type === "string" || schema.type === "boolean") {
    delete schema.minimum;
    delete schema.maximum;
  }
  if (schema.type !== "string") delete schema.pattern;
  if (Array.isArray(schema.enum)) schema.enum = schema.enum.filter((value) => typeOf(value) === schema.type);
}

function typeOf(value) {
  return Number.isInteger(value) ? "integer" : typeof value;
}

function shown(response) {
  if (response.ok && response.url.endsWith("/openapi.json")) {
    response.text = JSON.stringify(older(JSON.parse(response.text)));
    response.data = response.text;
  }
  return response;
}

async function start() {
  const documents = await (await fetch("swagger/documents.json")).json();
  window.ui = SwaggerUIBundle({
    urls: documents,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    responseInterceptor: shown,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    plugins: [SwaggerUIBundle.plugins.DownloadUrl],
    layout: "StandaloneLayout",
  });
}

if (typeof module === "undefined") start();
else module.exports = { older };
