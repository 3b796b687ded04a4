import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { App, Stack } from "aws-cdk-lib";
import { RetentionDays } from "aws-cdk-lib/aws-logs";

import { OF_THE_PACKAGE, OUTPUTS, PARAMETERS, SesBreaker, type SesBreakerParameters } from "../lib/ses-breaker";
import { readTemplate, type Json } from "../lib/template";
import { packaged } from "./package";

const FOLDER = packaged();
const TEMPLATE = readTemplate(readFileSync(join(FOLDER, "template.yaml"), "utf8"));

/** A value of each parameter other than its default, of the type that the construct asks for. */
const OTHERS: Required<SesBreakerParameters> = {
  mayPauseAccount: true,
  tenants: true,
  dedicatedIps: true,
  gateInUse: true,
  holdMail: true,
  eventBridgeSource: true,
  alertEmail: "you@example.com",
  silenceMinutes: 60,
  runbookUrl: "https://wiki.example.com/ses",
  architecture: "x86_64",
  memoryMegabytes: 1024,
  ingestWindowSeconds: 5,
  foldWindowSeconds: 0,
  ingestConcurrency: 10,
  reserveConcurrency: false,
  logLevel: "debug",
  logRetentionDays: RetentionDays.ONE_YEAR,
  protectTables: true,
};

/** The values that the types allow, where they are a list. */
const LISTED: { [name in "architecture" | "logLevel"]: Record<Required<SesBreakerParameters>[name], true> } = {
  architecture: { arm64: true, x86_64: true },
  logLevel: { error: true, warn: true, info: true, debug: true, trace: true },
};

/** Synthesised as in a new CDK application, where findings of CDK's own validation are errors. */
function synthesised(parameters: SesBreakerParameters = {}, folder = FOLDER): Json {
  const app = new App({ analyticsReporting: false, context: { "@aws-cdk/core:validateAgainstDefaultRules": true } });
  const stack = new Stack(app, "ses-breaker", { env: { region: "eu-west-1" } });
  new SesBreaker(stack, "SesBreaker", { packageFolder: folder, ...parameters });
  return app.synth().getStackByName("ses-breaker").template;
}

/** A part of the template with the values of parameters in place of references to them. */
function filledIn(part: Json, values: Map<string, unknown>): Json {
  if (Array.isArray(part)) return part.map((one) => filledIn(one, values));
  if (part === null || typeof part !== "object") return part;
  if (values.has(part.Ref)) return values.get(part.Ref);
  const entries = Object.entries(part).map(([key, value]) => [key, filledIn(value, values)] as const);
  const text = part["Fn::Sub"];
  if (typeof text === "string") {
    const filled = text.replace(/\$\{(\w+)\}/g, (all, name) => (values.has(name) ? String(values.get(name)) : all));
    return { "Fn::Sub": filled };
  }
  return Object.fromEntries(entries);
}

/** Without what the construct is there to replace, and without differences that CloudFormation does not see. */
function compared(resources: Json): Json {
  const asText = JSON.stringify(resources, (_, value) => (typeof value === "boolean" ? String(value) : value));
  const copy = JSON.parse(asText);
  for (const resource of Object.values<Json>(copy)) {
    delete resource.Properties?.CodeUri;
    resource.DependsOn?.sort();
  }
  return copy;
}

function defaults(): Map<string, unknown> {
  return new Map(Object.entries(TEMPLATE.Parameters).map(([name, parameter]) => [name, parameter.Default]));
}

for (const [what, given] of [["defaults", {}], ["other values", OTHERS]] as const) {
  test(`resources, conditions and outputs are the template's, with ${what}`, () => {
    const values = defaults();
    for (const [property, value] of Object.entries(given)) {
      values.set(PARAMETERS[property as keyof SesBreakerParameters], typeof value === "boolean" ? String(value) : value);
    }
    const template = synthesised(given);
    assert.deepEqual(compared(template.Resources), compared(filledIn(TEMPLATE.Resources, values)));
    assert.deepEqual(template.Outputs, filledIn(TEMPLATE.Outputs, values));
    for (const section of ["Conditions", "Globals", "Transform", "Description"] as const) {
      assert.deepEqual(template[section], filledIn((TEMPLATE as Json)[section], values), section);
    }
    // Only what CDK itself asks for: the version of the bootstrap stack.
    assert.deepEqual(Object.keys(template.Parameters), ["BootstrapVersion"]);
  });
}

test("every parameter of the template is a property of its type, and has no other", () => {
  const known = Object.keys(TEMPLATE.Parameters).filter((name) => !OF_THE_PACKAGE.includes(name));
  assert.deepEqual(Object.values(PARAMETERS).sort(), known.sort());
  for (const [property, value] of Object.entries(OTHERS)) {
    const parameter = TEMPLATE.Parameters[PARAMETERS[property as keyof SesBreakerParameters]];
    const allowed = parameter?.AllowedValues?.map(String);
    const type = allowed?.join() === "true,false" ? "boolean" : parameter?.Type.toLowerCase();
    assert.equal(typeof value, type, property);
    assert.notEqual(String(value), String(parameter?.Default), `${property} needs another value here`);
    if (property in LISTED) assert.deepEqual(Object.keys(LISTED[property as keyof typeof LISTED]), allowed, property);
    else if (allowed && type === "string") assert.fail(`${property} accepts any text; the template does not`);
  }
});

test("every output of the template is an output of the construct", () => {
  assert.deepEqual(Object.values(OUTPUTS).sort(), Object.keys(TEMPLATE.Outputs ?? {}).sort());
  const stack = new Stack(new App(), "ses-breaker");
  const { outputs } = new SesBreaker(stack, "SesBreaker", { packageFolder: FOLDER });
  assert.deepEqual(stack.resolve(outputs.gateUrl), { "Fn::GetAtt": ["GateFunctionUrl", "FunctionUrl"] });
});

test("a parameter or an output that is new in the template is noticed", () => {
  const more = packaged((template) => template.replace(/^Parameters:$/m, "Parameters:\n  Colour: { Type: String, Default: red }"));
  const known = Object.keys(readTemplate(readFileSync(join(more, "template.yaml"), "utf8")).Parameters);
  assert.notDeepEqual(Object.values(PARAMETERS).sort(), known.filter((name) => !OF_THE_PACKAGE.includes(name)).sort());
  // Until the construct knows it, its default applies.
  assert.ok(synthesised({}, more).Resources.IngestFunction);
});

test("each function has its own code, of the chosen processor", () => {
  const keys = (parameters: SesBreakerParameters) =>
    Object.entries<Json>(synthesised(parameters).Resources)
      .filter(([, resource]) => resource.Type === "AWS::Serverless::Function")
      .map(([, { Properties }]) => Properties.CodeUri.Key);
  const arm = keys({});
  const intel = keys({ architecture: "x86_64" });
  assert.equal(new Set([...arm, ...intel]).size, 10, "ten different files");
  for (const key of arm) assert.match(key, /^[0-9a-f]{64}\.zip$/);
});

test("a value that CloudFormation would refuse is refused when the stack is synthesised", () => {
  for (const [parameters, message] of [
    [{ silenceMinutes: 1441 }, /silenceMinutes is 1441: must be at most 1440/],
    [{ ingestWindowSeconds: 0 }, /ingestWindowSeconds is 0: must be at least 1/],
    [{ alertEmail: "you" }, /alertEmail is "you": must be empty or an e-mail address/],
    [{ logRetentionDays: RetentionDays.INFINITE }, /logRetentionDays is 9999: must be one of 1, 3, 5/],
  ] as const) {
    assert.throws(() => synthesised(parameters), message);
  }
});

test("the template of a checkout is refused, because it names no code of a package", () => {
  const checkout = packaged((template) => template.replace(/CodeUri: .*/g, "CodeUri: ../target/lambda/ingest/"));
  assert.throws(() => synthesised({}, checkout), /use the template of an installed package/);
});
