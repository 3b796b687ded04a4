/** Reads a template of CloudFormation, with the short form of its functions. */

import { parse, type CollectionTag, type ScalarTag } from "yaml";

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- a template has any shape
export type Json = any;

/** A parameter of a template. */
export interface Parameter {
  readonly Type: string;
  readonly Default?: string | number;
  readonly AllowedValues?: readonly (string | number)[];
  readonly AllowedPattern?: string;
  readonly ConstraintDescription?: string;
  readonly MinValue?: number;
  readonly MaxValue?: number;
}

/** The sections that are looked into here. */
export interface Template {
  readonly Description?: string;
  readonly Metadata?: Json;
  readonly Parameters: Record<string, Parameter>;
  readonly Resources: Record<string, { readonly Type: string; readonly Properties?: Json }>;
  readonly Outputs?: Record<string, { readonly Description: string; readonly Value: Json }>;
}

const FUNCTIONS = ["And", "Base64", "Cidr", "Equals", "FindInMap", "GetAtt", "GetAZs", "If", "ImportValue", "Join", "Not",
  "Or", "Select", "Split", "Sub", "Transform"];

/** The tag of a function, on a text and on a list or mapping. */
function tags(name: string, key: string): (ScalarTag | CollectionTag)[] {
  const text = (value: string) => ({ [key]: name === "GetAtt" ? value.split(/\.(.*)/s, 2) : value });
  const collection = (value: { toJSON(): unknown }) => ({ [key]: value.toJSON() });
  return [
    { tag: `!${name}`, resolve: text },
    { tag: `!${name}`, collection: "seq", resolve: collection } as CollectionTag,
    { tag: `!${name}`, collection: "map", resolve: collection } as CollectionTag,
  ];
}

/** The template in JSON's long form. */
export function readTemplate(yaml: string): Template {
  const named = FUNCTIONS.flatMap((name) => tags(name, `Fn::${name}`));
  return parse(yaml, { customTags: [...tags("Ref", "Ref"), ...tags("Condition", "Condition"), ...named] });
}
