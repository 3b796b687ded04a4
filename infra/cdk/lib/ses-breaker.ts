/**
 * The stack of ses-breaker as a CDK construct.
 *
 * The template of the package is included as it is: resources keep its logical ids, and a new release of ses-breaker needs no
 * change here unless it has a new parameter or output. Here are only the types of parameters and outputs; what a parameter
 * accepts is read from the template.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { CfnOutput, Stack, Token, Validations } from "aws-cdk-lib";
import type { RetentionDays } from "aws-cdk-lib/aws-logs";
import { Asset } from "aws-cdk-lib/aws-s3-assets";
import type { CfnFunction } from "aws-cdk-lib/aws-sam";
import { CfnInclude } from "aws-cdk-lib/cloudformation-include";
import { Construct } from "constructs";

import { readTemplate, type Json, type Parameter } from "./template";

/** The parameters of the template. Each is optional: without it the template's default applies. */
export interface SesBreakerParameters {
  /** Lets the enforcer stop and resume the account. The policy must ask for it, too. */
  readonly mayPauseAccount?: boolean;
  /** Lets the enforcer read, stop and resume SES tenants. */
  readonly tenants?: boolean;
  /** Lets the enforcer read and set the warm-up percentage of standard dedicated IPs. */
  readonly dedicatedIps?: boolean;
  /** Whether your application asks the gate before it sends. */
  readonly gateInUse?: boolean;
  /** Whether relays hold mail that may not go now. If so, there is a bucket for it. */
  readonly holdMail?: boolean;
  /** Also take events from EventBridge. */
  readonly eventBridgeSource?: boolean;
  /** Gets every alert, once its owner has confirmed the subscription. */
  readonly alertEmail?: string;
  /** Alarm when no event has come for this number of minutes. 0 turns it off. */
  readonly silenceMinutes?: number;
  /** Where your people read the runbook. */
  readonly runbookUrl?: string;
  /** The processor of the functions. Chooses the code in the package, too. */
  readonly architecture?: "arm64" | "x86_64";
  /** Memory of each function, in MB. */
  readonly memoryMegabytes?: number;
  /** How long ingest gathers events. */
  readonly ingestWindowSeconds?: number;
  /** How long the breaker gathers units. */
  readonly foldWindowSeconds?: number;
  /** The highest number of concurrent ingests. */
  readonly ingestConcurrency?: number;
  /** Reserve a concurrency of 1 for the enforcer. */
  readonly reserveConcurrency?: boolean;
  /** What the functions log. */
  readonly logLevel?: "error" | "warn" | "info" | "debug" | "trace";
  /** How long logs are kept. */
  readonly logRetentionDays?: RetentionDays;
  /** Refuse the deletion of the two tables. */
  readonly protectTables?: boolean;
}

/** The parameters, and where the package is. */
export interface SesBreakerProps extends SesBreakerParameters {
  /** The folder `share/ses-breaker` of the installed package, with `template.yaml` and `functions/`. */
  readonly packageFolder: string;
}

/** The name of each parameter in the template. The compiler checks that none is missing. */
export const PARAMETERS: { readonly [name in keyof Required<SesBreakerParameters>]: string } = {
  mayPauseAccount: "MayPauseAccount",
  tenants: "Tenants",
  dedicatedIps: "DedicatedIps",
  gateInUse: "GateInUse",
  holdMail: "HoldMail",
  eventBridgeSource: "EventBridgeSource",
  alertEmail: "AlertEmail",
  silenceMinutes: "SilenceMinutes",
  runbookUrl: "RunbookUrl",
  architecture: "Architecture",
  memoryMegabytes: "MemoryMegabytes",
  ingestWindowSeconds: "IngestWindowSeconds",
  foldWindowSeconds: "FoldWindowSeconds",
  ingestConcurrency: "IngestConcurrency",
  reserveConcurrency: "ReserveConcurrency",
  logLevel: "LogLevel",
  logRetentionDays: "LogRetentionDays",
  protectTables: "ProtectTables",
};

/** The outputs of the template. */
export interface SesBreakerOutputs {
  /** The release of the template and the functions. */
  readonly release: string;
  /** Where event destinations of configuration sets publish to. */
  readonly eventsTopicArn: string;
  /** The alerts, for people. */
  readonly alertTopicArn: string;
  /** The alerts, for Amazon Q Developer in chat applications. */
  readonly chatTopicArn: string;
  /** Every counted fact once. */
  readonly ledgerTableName: string;
  /** Rates, states, controls and the policy. */
  readonly reputationTableName: string;
  /** Events that could not be recorded. */
  readonly deadLetterQueueUrl: string;
  /** The key of the topics and tables. */
  readonly keyArn: string;
  /** Where your application asks for permits. */
  readonly gateUrl: string;
  /** The policy for roles of applications that ask the gate. */
  readonly gateCallersPolicyArn: string;
  /** The policy for roles of people who look. */
  readonly viewerPolicyArn: string;
  /** The policy for roles of people who also stop and resume. */
  readonly operatorPolicyArn: string;
  /** The bucket that relays hold mail in, or "none". */
  readonly heldMailBucketName: string;
  /** The topic of alerts about held mail, or "none". */
  readonly heldMailTopicArn: string;
  /** The policy for roles of relays that hold mail, or "none". */
  readonly relayPolicyArn: string;
  /** The dashboard in the console. */
  readonly dashboardUrl: string;
}

/** The name of each output in the template. The compiler checks that none is missing. */
export const OUTPUTS: { readonly [name in keyof SesBreakerOutputs]: string } = {
  release: "Release",
  eventsTopicArn: "EventsTopicArn",
  alertTopicArn: "AlertTopicArn",
  chatTopicArn: "ChatTopicArn",
  ledgerTableName: "LedgerTableName",
  reputationTableName: "ReputationTableName",
  deadLetterQueueUrl: "DeadLetterQueueUrl",
  keyArn: "KeyArn",
  gateUrl: "GateUrl",
  gateCallersPolicyArn: "GateCallersPolicyArn",
  viewerPolicyArn: "ViewerPolicyArn",
  operatorPolicyArn: "OperatorPolicyArn",
  heldMailBucketName: "HeldMailBucketName",
  heldMailTopicArn: "HeldMailTopicArn",
  relayPolicyArn: "RelayPolicyArn",
  dashboardUrl: "DashboardUrl",
};

/** Parameters of the packaged template that say where the code is. CDK has assets for that. */
export const OF_THE_PACKAGE = ["CodeBucket", "CodePrefix"];

/**
 * ses-breaker in the stack of its scope. Names of resources derive from the stack's name, so a stack has at most one.
 *
 * `outputs` has the outputs of the template, `template` its resources for changes of your own.
 */
export class SesBreaker extends Construct {
  readonly outputs: SesBreakerOutputs;
  readonly template: CfnInclude;

  constructor(scope: Construct, id: string, props: SesBreakerProps) {
    super(scope, id);
    const stack = Stack.of(this);
    const { Outputs: outputs = {}, Metadata: _form, Description: description, ...template } =
      readTemplate(readFileSync(join(props.packageFolder, "template.yaml"), "utf8"));
    // The stack has one description, which may be yours.
    stack.templateOptions.description ??= description ?? "";

    const values = parameters(template.Parameters, props);
    const code = Object.fromEntries(OF_THE_PACKAGE.map((name) => [name, "replaced"]));
    // Outputs refer to resources that the SAM transform makes, which CfnInclude does not know: they follow below.
    const folder = mkdtempSync(join(tmpdir(), "ses-breaker-"));
    const file = join(folder, "template.json");
    writeFileSync(file, JSON.stringify(template));
    this.template = new CfnInclude(this, "Template", { templateFile: file, parameters: { ...values, ...code } });
    rmSync(folder, { recursive: true });

    for (const [name, resource] of Object.entries(template.Resources)) {
      if (resource.Type === "AWS::Serverless::Function") {
        const zip = codeOf(name, resource.Properties?.CodeUri);
        const path = join(props.packageFolder, "functions", String(values.Architecture), zip);
        const asset = new Asset(this, `${name}Code`, { path });
        const includedFunction = this.template.getResource(name) as CfnFunction;
        includedFunction.codeUri = { bucket: asset.s3BucketName, key: asset.s3ObjectKey };
      }
    }

    for (const [name, output] of Object.entries(outputs)) {
      const made = new CfnOutput(this, name, { description: output.Description, value: Token.asString(output.Value) });
      made.overrideLogicalId(name);
    }
    acknowledge(stack);
    const value = ([property, name]: [string, string]) => {
      const output = outputs[name];
      if (output === undefined) throw new Error(`${props.packageFolder}/template.yaml has no output ${name}`);
      return [property, Token.asString(output.Value)];
    };
    this.outputs = Object.fromEntries(Object.entries(OUTPUTS).map(value)) as unknown as SesBreakerOutputs;
  }
}

/** Acknowledges what CDK's own validation cannot know of this template. CDK attributes most of it to the whole stack. */
function acknowledge(stack: Stack): void {
  const rule = (id: string, reason: string) => ({ id: `CloudFormation-Validate::${id}`, reason });
  Validations.of(stack).acknowledge(
    rule("F6101", "the output GateUrl refers to a resource that the SAM transform makes"),
    rule("F3034", "the silence alarm has no period where its condition leaves it out"),
    rule("W8003", "conditions compare parameters, and a construct has their values when it is synthesised"),
    rule("W9053", "conditions compare parameters, and a construct has their values when it is synthesised"),
  );
}

/** The file name of a function's code, such as `ingest.zip`. */
function codeOf(name: string, codeUri: Json | undefined): string {
  const zip = /^\$\{CodePrefix\}(\w+\.zip)$/.exec(codeUri?.Key?.["Fn::Sub"] ?? "")?.[1];
  if (zip === undefined) {
    throw new Error(`the CodeUri of ${name} names no code of a package: use the template of an installed package`);
  }
  return zip;
}

/** The value of every parameter of the template but those of the package, as CloudFormation would see it. */
function parameters(known: Record<string, Parameter>, props: SesBreakerParameters): Record<string, unknown> {
  const given = new Map<string, unknown>();
  for (const [property, name] of Object.entries(PARAMETERS)) {
    const value = props[property as keyof SesBreakerParameters];
    if (value === undefined) continue;
    const parameter = known[name];
    if (parameter === undefined) throw new Error(`this release has no parameter ${name}: leave ${property} out`);
    // A value that is known only when the stack is deployed cannot be checked here.
    if (!Token.isUnresolved(value)) check(property, value, parameter);
    given.set(name, typeof value === "boolean" ? String(value) : value);
  }
  const names = Object.keys(known).filter((name) => !OF_THE_PACKAGE.includes(name));
  const value = (name: string) => {
    const value = given.get(name) ?? known[name]?.Default;
    if (value === undefined) throw new Error(`the parameter ${name} has no default, and this construct does not know it`);
    return [name, value];
  };
  return Object.fromEntries(names.map(value));
}

/** Checks a value as CloudFormation checks that of a parameter. */
function check(property: string, value: string | number | boolean, parameter: Parameter): void {
  const text = String(value);
  const refuse = (must: string) => {
    throw new Error(`${property} is ${JSON.stringify(value)}: ${parameter.ConstraintDescription ?? must}`);
  };
  const { AllowedValues, AllowedPattern, MinValue, MaxValue, Type } = parameter;
  if (AllowedValues && !AllowedValues.map(String).includes(text)) refuse(`must be one of ${AllowedValues.join(", ")}`);
  if (AllowedPattern && !new RegExp(`^(?:${AllowedPattern})$`).test(text)) refuse(`must match ${AllowedPattern}`);
  if (Type === "Number" && !Number.isFinite(Number(text))) refuse("must be a number");
  if (MinValue !== undefined && Number(value) < MinValue) refuse(`must be at least ${MinValue}`);
  if (MaxValue !== undefined && Number(value) > MaxValue) refuse(`must be at most ${MaxValue}`);
}
